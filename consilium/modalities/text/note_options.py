"""Notes as `consilium diagnose` takes them: ``KIND=TEXT`` or ``KIND=@FILE``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from consilium.domain.errors import InputError
from consilium.formats.text_files import read_text
from consilium.modalities.text.note import NoteKind

_RULE = f"must read KIND=TEXT or KIND=@FILE with a kind of {', '.join(NoteKind)}"


def notes_from_options(values: Sequence[str], option: str) -> list[dict[str, object]]:
    """The notes of a request.

    Raises
    ------
    InputError
        Names the option, by its position.
    """
    return [_note(value, f"{option}[{position}]") for position, value in enumerate(values)]


def _note(value: str, option: str) -> dict[str, object]:
    kind, equals, text = value.partition("=")
    if not equals or kind not in NoteKind.__members__.values():
        raise InputError(option, kind if equals else "no kind", _RULE)
    if text.startswith("@"):
        text = read_text(Path(text[1:]), option)
    return {"kind": kind, "text": text}
