"""HL7 v2 messages: bytes become segments whose fields are read as text, whatever the sender's encoding and separators.

The library `hl7` splits; decoding and escape sequences are ours, because its own write what they cannot read into the
log and take no bound. Source: HL7 v2.5.1, 2.5 to 2.8, 2.7 (escape sequences) and 2.15.9.18 (character set).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property

import hl7

from consilium.domain.errors import InputError, TooLarge
from consilium.formats.time_zone import TimeZone
from consilium.formats.times import dicom_datetime, file_time

MOST_PARTS = 100_000
"""Segments, fields, repetitions, components and subcomponents of one message."""
_HEADER = re.compile(rb"MSH([^\w\s])([^\w\s]{1,5})\1")
_LINE_END = re.compile("\r\n|\r|\n")
_SEGMENT_NAME = "[A-Z][A-Z0-9]{2}"
_HIGH = re.compile(rb"[\x80-\xff]")
_DEFAULTS = b"^~\\&"
_CHARACTER_SETS = {
    "UNICODE": "utf-8",
    "UNICODEUTF8": "utf-8",
    "GB180302000": "gb18030",
    "KSX1001": "euc_kr",
    "BIG5": "big5",
    "ISOIR87": "iso2022_jp",
    "ISOIR159": "iso2022_jp_2",
    "ISOIR14": "shift_jis",
    "WINDOWS1252": "cp1252",
} | {f"8859{part}": f"iso8859_{part}" for part in (*range(1, 12), *range(13, 17))}
"""HL7 table 0211, without blanks and punctuation."""
_TEXT_CODECS = re.compile(r"ascii|utf-8|cp125\d|cp8\d\d|iso8859-\d+|koi8-[ru]|gb\w+|big5|euc_\w+|shift_jis|iso2022_\w+")
"""Of Python's codecs those whose bytes below 128 are the separators; others decompress, or rotate letters."""
_LONGEST_ESCAPE = 200
_REPEATED = 10
"""Most blank lines or columns of indentation that one sequence may ask for."""


@dataclass(frozen=True, slots=True)
class Separators:
    """MSH-1 and MSH-2."""

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str


@dataclass(frozen=True)
class Segment:
    """One segment; fields, repetitions, components and subcomponents are counted from 1, as the standard does."""

    name: str
    fields: hl7.Segment
    separators: Separators
    encoding: str

    def text(self, field: int, component: int = 1, subcomponent: int = 1, *, repetition: int = 1) -> str:
        """What stands there without its escape sequences and the blanks around it; empty where nothing does.

        ``""``, with which a sender deletes a value, is nothing as well.
        """
        found = _within(self.fields, field + 1, repetition, component, subcomponent)
        text = unescaped(found, self.separators, self.encoding).strip()
        return "" if text == '""' else text

    def free_text(self, field: int) -> str:
        """A whole field of text, a line for each repetition; senders leave separators in text unescaped."""
        repetitions = self.fields[field] if field < len(self.fields) else []
        return "\n".join(unescaped(str(one), self.separators, self.encoding) for one in repetitions).strip()

    def repetitions(self, field: int) -> int:
        """How often a field is repeated; 0 where it is empty or not there."""
        there = field < len(self.fields) and str(self.fields[field])
        return len(self.fields[field]) if there else 0

    def time(self, field: int, zone: TimeZone, *, component: int = 1) -> datetime | None:
        """An instant (TS, DTM), by its own offset or the clock of `zone`; None where it lacks the hour or is none."""
        return read_time(self.text(field, component), zone)

    def day(self, field: int) -> date | None:
        """The day of a date or a time."""
        try:
            return datetime.strptime(self.text(field)[:8], "%Y%m%d").date()
        except ValueError:
            return None


def read_time(text: str, zone: TimeZone) -> datetime | None:
    """An HL7 time as an instant; None where it is none or only a day."""
    return file_time(dicom_datetime(text), "time", zone)[0]


@dataclass(frozen=True)
class Message:
    """A message: its segments, and what a reader has to know of how it was encoded."""

    segments: tuple[Segment, ...]
    separators: Separators
    warnings: tuple[str, ...] = ()

    @cached_property
    def header(self) -> Segment:
        """MSH, whose first field is the separator: MSH-9 is field 9."""
        return self.segments[0]

    @property
    def kind(self) -> tuple[str, str]:
        """Message code and trigger event: ``("ORU", "R01")``."""
        return self.header.text(9), self.header.text(9, 2)

    @property
    def control_id(self) -> str:
        """MSH-10."""
        return self.header.text(10)

    def all(self, name: str) -> Iterator[Segment]:
        """Every segment of one name."""
        return (segment for segment in self.segments if segment.name == name)

    def first(self, name: str) -> Segment | None:
        """The first segment of one name."""
        return next(self.all(name), None)


def parse(content: bytes, default_encoding: str | None = None) -> Message:
    """Read a message.

    Parameters
    ----------
    content : bytes
        From ``MSH`` on; segments end with CR, which may be LF or both.
    default_encoding : str, optional
        Python's name of the encoding in which this sender writes without declaring it (MSH-18).

    Raises
    ------
    InputError
        No MSH segment with separators that differ, or a second one.
    TooLarge
        More than `MOST_PARTS` parts.
    """
    content = content.strip(b"\r\n\t \x00").removeprefix(codecs.BOM_UTF8)
    separators = _separators(content)
    text, encoding, warnings = _decoded(content, separators, default_encoding)
    lines = _lines(text, separators)
    _check_size(lines, separators)
    parsed = hl7.parse("\r".join(lines))
    segments = tuple(Segment(str(one[0]), one, separators, encoding) for one in parsed)
    if any(segment.name == "MSH" for segment in segments[1:]):
        raise InputError("MSH", "two", "must be one segment; batches are not taken")
    return Message(segments, separators, warnings)


def parse_header(content: bytes) -> Message:
    """The MSH segment alone, for an acknowledgement of what cannot be read further.

    Raises
    ------
    InputError, TooLarge
        As `parse`.
    """
    return parse(re.split(rb"[\r\n]", content.lstrip(b"\r\n\t \x00"), maxsplit=1)[0])


def _separators(content: bytes) -> Separators:
    found = _HEADER.match(content)
    if not found:
        raise InputError("message", "other bytes", "must begin with MSH and its separators")
    given = found[2][:4]
    each = (found[1] + given + _DEFAULTS[len(given) :]).decode("ascii", "replace")
    if len(set(each)) != len(each) or not each.isascii():
        raise InputError("MSH", each, "must name separators that differ from each other")
    return Separators(*each)


def _decoded(content: bytes, separators: Separators, default: str | None) -> tuple[str, str, tuple[str, ...]]:
    """The text, Python's name of its encoding, and warnings."""
    if not _HIGH.search(content) and b"\x1b" not in content:
        return content.decode("ascii"), "utf-8", ()
    header = re.split(rb"[\r\n]", content, maxsplit=1)[0].split(separators.field.encode())
    declared = b"".join(header[17:18]).decode("ascii", "replace").partition(separators.repetition)[0].strip()
    encoding = _encoding(declared) if declared else default
    if encoding is not None and encoding != "ascii":
        try:
            return content.decode(encoding), encoding, ()
        except UnicodeDecodeError:
            return *_guessed(content), (f"MSH-18 names {encoding}, which the bytes are not; read by their form",)
    text, guessed = _guessed(content)
    if declared:
        return text, guessed, (f"MSH-18 names no character set that fits; read as {guessed}",)
    return text, guessed, () if guessed == "utf-8" else (f"no character set is declared (MSH-18); read as {guessed}",)


def _encoding(declared: str) -> str | None:
    """Python's name of an entry of table 0211, or of what senders write in its place; None where it is none."""
    plain = re.sub(r"[^A-Z0-9]", "", declared.upper())
    if plain in _CHARACTER_SETS:
        return _CHARACTER_SETS[plain]
    try:
        name = codecs.lookup(declared).name
    except LookupError:
        return None
    return name if _TEXT_CODECS.fullmatch(name) else None


def _guessed(content: bytes) -> tuple[str, str]:
    try:
        return content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace"), "cp1252"


def _lines(text: str, separators: Separators) -> list[str]:
    """One line a segment; what does not begin as a segment belongs to the text of the one before."""
    begins = re.compile(f"{_SEGMENT_NAME}(?:{re.escape(separators.field)}|$)")
    lines: list[list[str]] = []
    for line in _LINE_END.split(text):
        if begins.match(line):
            lines.append([line])
        elif line.strip():
            lines[-1].append(line)
    return ["\n".join(one) for one in lines]


def _check_size(lines: list[str], separators: Separators) -> None:
    each = (separators.field, separators.component, separators.repetition, separators.subcomponent)
    parts = len(lines) + sum(line.count(separator) for line in lines for separator in each)
    if parts > MOST_PARTS:
        raise TooLarge("message", f"{parts} parts", f"must be at most {MOST_PARTS}")


def _within(part: object, *path: int) -> str:
    """The text at the end of `path`; below a leaf everything at position 1 is the leaf itself."""
    for position in path:
        if isinstance(part, str):
            if position != 1:
                return ""
        elif isinstance(part, list):
            if len(part) < position:
                return ""
            part = part[position - 1]
    while isinstance(part, list):
        part = part[0] if part else ""
    return str(part)


def unescaped(text: str, separators: Separators, encoding: str) -> str:
    """`text` with its escape sequences carried out; what is no sequence of the standard stays as it is."""
    if separators.escape not in text:
        return text
    mark = re.escape(separators.escape)
    sequence = re.compile(f"{mark}([^{mark}]{{1,{_LONGEST_ESCAPE}}}){mark}")
    return sequence.sub(lambda found: _carried_out(found, separators, encoding), text)


def _carried_out(found: re.Match[str], separators: Separators, encoding: str) -> str:
    body = found[1]
    plain = {
        "F": separators.field,
        "S": separators.component,
        "T": separators.subcomponent,
        "R": separators.repetition,
        "E": separators.escape,
        "H": "",
        "N": "",
        ".br": "\n",
        ".ce": "\n",
        ".fi": "",
        ".nf": "",
    }
    if body in plain:
        return plain[body]
    if spaced := re.fullmatch(r"\.(sp|sk|in|ti)([+-]?\d{0,4})", body):
        times = min(abs(int(spaced[2] or 1)), _REPEATED) if spaced[2] not in ("+", "-") else 1
        return ("\n" if spaced[1] == "sp" else " ") * times
    if re.fullmatch(r"X(?:[0-9A-Fa-f]{2})+", body):
        return bytes.fromhex(body[1:]).decode(encoding, "replace")
    return "" if re.fullmatch(r"[CM](?:[0-9A-Fa-f]{2}){2,3}", body) else found[0]


_MARKS = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}


def escaped(text: str) -> str:
    """`text` for a message of ours, which has the usual separators, without line ends of its own."""
    lines = "".join(_MARKS.get(one, one) for one in text).splitlines()
    return "\\.br\\".join("".join(one for one in line if one.isprintable()) for line in lines)
