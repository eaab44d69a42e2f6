"""Notes: ``[{kind, text, time}]`` becomes Notes."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

from consilium.domain.errors import InputError, TooLarge
from consilium.formats.fields import check_list, check_object
from consilium.formats.limits import DEFAULT_LIMITS, Limits
from consilium.formats.time_zone import TimeZone
from consilium.formats.times import read_time
from consilium.modalities.text.note import Note, NoteKind

_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""What ends a line or a record (Unicode, section 5.8; ASCII's file, group and record separators)."""

_SEPARATORS = "\u200b\ufff9\ufffa\ufffb"
"""Format characters between words: the zero-width space, and what sets a reading beside its word."""

_WINDOWS = {chr(code): bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}
"""C1 controls stand in text only where Windows-1252 was taken for Latin-1: dashes, quotation marks, the euro."""


def read_notes(
    raw: Sequence[Mapping[str, object]],
    *,
    field: str = "notes",
    limits: Limits = DEFAULT_LIMITS,
    zone: TimeZone | None = None,
) -> tuple[tuple[Note, ...], tuple[str, ...]]:
    """Read notes.

    Parameters
    ----------
    raw : sequence of mappings
        ``kind`` (history, indication, findings, impression), ``text``, ``time`` (ISO 8601, optional).
    zone : TimeZone or None
        As `read_time` takes it.

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
    notes: list[Note] = []
    warnings: list[str] = []
    for i, entry in enumerate(check_list(raw, field, limits.notes)):
        note, told = _read_note(entry, f"{field}[{i}]", limits, zone)
        notes.append(note)
        warnings += told
    return tuple(notes), tuple(warnings)


def _read_note(raw: object, field: str, limits: Limits, zone: TimeZone | None) -> tuple[Note, tuple[str, ...]]:
    entry = check_object(raw, field, ("kind", "text", "time"), required=("kind", "text"))
    kind = entry["kind"]
    if not isinstance(kind, str) or kind not in NoteKind.__members__.values():
        raise InputError(f"{field}.kind", kind, f"must be one of {', '.join(NoteKind)}")
    text = clean_text(entry["text"], f"{field}.text", limits)
    time, warnings = read_time(entry.get("time"), f"{field}.time", zone)
    return Note(NoteKind(kind), text, time), warnings


def clean_text(raw: object, field: str, limits: Limits = DEFAULT_LIMITS) -> str:
    """Text in Unicode NFC with line feeds as line ends and without control or format characters.

    What ends a line ends one here, any other control character separates words, and so does a zero-width space;
    joiners, soft hyphens and marks of direction go without a trace.

    Raises
    ------
    InputError
        No text, empty once cleaned, or half of a surrogate pair, which no encoding can hold.
    TooLarge
    """
    if not isinstance(raw, str):
        raise InputError(field, type(raw).__name__, "must be text")
    if len(raw) > limits.note_characters:
        raise TooLarge(field, f"{len(raw)} characters", f"must be at most {limits.note_characters}")
    kept = "".join([_written(character, field) for character in raw.replace("\r\n", "\n")])
    text = unicodedata.normalize("NFC", kept).strip()
    if not text:
        raise InputError(field, "", "must not be empty")
    # Normalisation may lengthen.
    if len(text) > limits.note_characters:
        raise TooLarge(field, f"{len(text)} characters", f"must be at most {limits.note_characters}")
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
