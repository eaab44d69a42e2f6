"""Headers of WFDB records, and the files that a header names. Source: WFDB Applications Guide, header(5)."""

from __future__ import annotations

import io
import math
import re
import zipfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from consilium.domain.errors import InputError, TooLarge, UnsupportedMedia
from consilium.modalities.ecg.files.bounds import check_rate

MOST_HEADER = 1 << 20
"""Bytes of a header."""
BITS = {16: 16, 212: 12, 24: 24}
"""Bits of a sample by format. The lowest number that they hold stands for a sample that is missing."""
_MOST_SIGNALS = 256
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_RECORD = re.compile(
    r"(?P<name>[^\s/]+)(?P<segments>/\d+)?\s+(?P<signals>\d{1,9})(?:\s+(?P<rate>[^\s/(]+)(?:[/(]\S*)?)?"
    r"(?:\s+(?P<samples>\d{1,15}))?(?:\s+(?P<clock>[\d:.]{1,24}))?(?:\s+(?P<day>\d{1,2}/\d{1,2}/\d{1,4}))?\s*"
)
_FORMAT = re.compile(r"(?P<number>\d{1,9})(?:x(?P<frame>\d{1,9}))?(?::(?P<skew>\d{1,9}))?(?:\+(?P<offset>\d{1,15}))?")
_GAIN = re.compile(r"(?P<gain>[-+.0-9eE]+)(?:\((?P<baseline>-?\d{1,15})\))?(?:/(?P<unit>\S+))?")
USUAL_GAIN = 200.0
"""Steps a unit where a header knows none. Source: header(5)."""
_LARGEST = 10**15


@dataclass(frozen=True, slots=True)
class Signal:
    """One line of a header; `gain` is 0 where it is not known."""

    file: str
    format: int
    skew: int
    offset: int
    gain: float
    baseline: int
    unit: str
    checksum: int | None
    name: str


@dataclass(frozen=True, slots=True)
class Header:
    """Of a record of one segment; `samples` is 0 where it does not say how many there are."""

    rate: float
    samples: int
    time: datetime | None
    signals: tuple[Signal, ...]


def pack(path: Path, most: int) -> bytes:
    """The bytes that are sent of the file at `path`: of a header (.hea) a zip archive with its signal files, too.

    The signal files are looked for beside the header and nowhere else. The same files give the same bytes.

    Raises
    ------
    InputError
        A header that names another folder, or files of more than `most` bytes.
    OSError
        Where a file cannot be read.
    """
    if path.suffix.lower() != ".hea":
        _check_size(path.stat().st_size, most)
        return path.read_bytes()
    _check_size(path.stat().st_size, min(most, MOST_HEADER))
    header = path.read_bytes()
    names = sorted({signal.file for signal in read_header(header).signals})
    folder = path.parent.resolve()
    if any((folder / name).resolve().parent != folder for name in names):
        raise InputError("header.signals", "a link", "must be files beside the header")
    _check_size(len(header) + sum((path.parent / name).stat().st_size for name in names), most)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in [path.name, *names]:
            archive.writestr(zipfile.ZipInfo(name), header if name == path.name else (path.parent / name).read_bytes())
    return packed.getvalue()


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise TooLarge("size", size, f"must be at most {most} bytes")


def read_header(data: bytes) -> Header:
    """Read a header; `InputError` names the field that breaks a rule."""
    # Not splitlines: what ends a line in Latin-1 may be half a letter of a comment in UTF-8.
    lines = [line.strip(" \t\r") for line in data.decode("latin-1").split("\n")]
    lines = [line for line in lines if line and not line.startswith("#")]
    record = _RECORD.fullmatch(lines[0]) if lines else None
    if record is None:
        raise InputError("header", "its first line", "must give record, signals, rate and samples as WFDB headers do")
    if record["segments"] is not None:
        raise UnsupportedMedia("header", "a record of several segments", "must be of one segment")
    rate = _number(record["rate"] or "", "header.rate")
    check_rate(rate, "header.rate", record["rate"])
    count = int(record["signals"])
    if not 1 <= count <= _MOST_SIGNALS or len(lines) - 1 < count:
        rule = f"must be 1 to {_MOST_SIGNALS}, each with a line of its own"
        raise InputError("header.signals", f"{count} signals and {len(lines) - 1} lines", rule)
    signals = tuple(_signal(line, f"header.signals[{i}]") for i, line in enumerate(lines[1 : count + 1]))
    return Header(rate, int(record["samples"] or 0), _start(record["day"], record["clock"]), signals)


def _number(text: str, field: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(field, text[:20] or None, "must be a number") from None


def _whole(words: list[str], position: int, default: int, field: str) -> int:
    if len(words) <= position:
        return default
    try:
        value = int(words[position])
    except ValueError:
        value = _LARGEST
    if abs(value) >= _LARGEST:
        raise InputError(field, words[position][:20], "must be a whole number")
    return value


def _start(day: str | None, clock: str | None) -> datetime | None:
    if not day or not clock:
        return None
    try:
        hour, minute, second = clock.split(".")[0].split(":")
        date = [int(part) for part in day.split("/")]
        return datetime(date[2], date[1], date[0], int(hour), int(minute), int(second))
    except ValueError:
        return None


def _signal(line: str, field: str) -> Signal:
    words = line.split(maxsplit=8)
    form = _FORMAT.fullmatch(words[1]) if len(words) > 1 else None
    if form is None:
        raise InputError(field, "its line", "must give file and format as WFDB headers do")
    if not _PLAIN_NAME.fullmatch(words[0]):
        raise InputError(f"{field}.file", "a path", "must be the name of a file beside the header")
    number = int(form["number"])
    if number not in BITS:
        raise UnsupportedMedia(f"{field}.format", number, f"must be one of {', '.join(map(str, BITS))}")
    if int(form["frame"] or 1) != 1:
        raise UnsupportedMedia(f"{field}.format", "several samples a frame", "must be one sample a frame")
    gain = _GAIN.fullmatch(words[2]) if len(words) > 2 else None
    if len(words) > 2 and gain is None:
        raise InputError(f"{field}.gain", words[2][:20], "must be a number with baseline and unit, as 200(0)/mV")
    value = _number(gain["gain"], f"{field}.gain") if gain else 0.0
    if not math.isfinite(value) or value < 0:
        raise InputError(f"{field}.gain", value, "must be a number of steps a unit, or 0 where it is not known")
    zero = _whole(words, 4, 0, f"{field}.zero")
    return Signal(
        file=words[0],
        format=number,
        skew=int(form["skew"] or 0),
        offset=int(form["offset"] or 0),
        gain=value,
        baseline=int(gain["baseline"]) if gain and gain["baseline"] else zero,
        unit=(gain["unit"] if gain and gain["unit"] else "mV"),
        checksum=_whole(words, 6, 0, f"{field}.checksum") if len(words) > 6 else None,
        name=words[8] if len(words) > 8 else "",
    )
