"""Notes: ``[{kind, text, time}]`` becomes Notes."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

from consilium.domain.errors import InputError, TooLarge
from consilium.domain.wire import Wire
from consilium.formats.sent_records import Moment, checked_records
from consilium.formats.times import read_time
from consilium.modalities.modality import ReadingContext
from consilium.modalities.registry import default_context
from consilium.modalities.text.note import Note, NoteKind

_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""What ends a line or a record (Unicode, section 5.8; ASCII's file, group and record separators)."""

_SEPARATORS = "\u200b\ufff9\ufffa\ufffb"
"""Format characters between words: the zero-width space, and what sets a reading beside its word."""

_WINDOWS = {chr(code): bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}
"""C1 controls stand in text only where Windows-1252 was taken for Latin-1: dashes, quotation marks, the euro."""


class NoteRecord(Wire):
    """A passage of clinical text. Which kinds the model reads is part of its recipe (`GET /v1/model`)."""

    kind: NoteKind
    text: str
    time: Moment | None = None


def read_notes(
    raw: Sequence[NoteRecord | Mapping[str, object]], *, field: str = "notes", context: ReadingContext | None = None
) -> tuple[tuple[Note, ...], tuple[str, ...]]:
    """Read notes.

    Parameters
    ----------
    raw : sequence of NoteRecord or of mappings
        ``kind`` (history, indication, findings, impression), ``text``, ``time`` (ISO 8601, optional).

    Returns
    -------
    notes : tuple of Note
        In the order given.
    warnings : tuple of str

    Raises
    ------
    InputError
        An unknown key or kind, a malformed time, text that is empty or no text.
    TooLarge
        Too many notes, or a note too long.
    """
    context = context or default_context()
    notes: list[Note] = []
    warnings: list[str] = []
    for i, record in enumerate(checked_records(NoteRecord, raw, field, context.limits["notes"])):
        text = clean_text(record.text, f"{field}[{i}].text", context.limits["note_characters"])
        time, doubts = read_time(record.time, f"{field}[{i}].time", context.zone)
        notes.append(Note(record.kind, text, time))
        warnings += doubts
    return tuple(notes), tuple(warnings)


def clean_text(raw: str, field: str, most_characters: int) -> str:
    """Text in Unicode NFC with line feeds as line ends and without control or format characters.

    What ends a line ends one here, any other control character separates words, and so does a zero-width space;
    joiners, soft hyphens and marks of direction go without a trace.

    Raises
    ------
    InputError
        Empty once cleaned, or half of a surrogate pair, which no encoding can hold.
    TooLarge
    """
    if len(raw) > most_characters:
        raise TooLarge(field, f"{len(raw)} characters", f"must be at most {most_characters}")
    kept = "".join([_written(character, field) for character in raw.replace("\r\n", "\n")])
    text = unicodedata.normalize("NFC", kept).strip()
    if not text:
        raise InputError(field, "", "must not be empty")
    # Normalisation may lengthen.
    if len(text) > most_characters:
        raise TooLarge(field, f"{len(text)} characters", f"must be at most {most_characters}")
    return text


def _written(character: str, field: str) -> str:
    """What stays of one character."""
    if character.isprintable():
        return character
    if character in _LINE_ENDS:
        return "\n"
    category = unicodedata.category(character)
    if category == "Cs":
        raise InputError(field, "lone surrogate", "must be valid Unicode text")
    if category == "Cc":
        return character if character == "\t" else _WINDOWS.get(character) or " "
    if category == "Cf":
        return " " if character in _SEPARATORS else ""
    return character
