"""WFDB: a header and its signal files, as PhysioNet keeps them, in a zip archive of one record.

Formats 16, 212 and 24. Source: WFDB Applications Guide, header(5) and signal(5).
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import InputError, TooLarge, UnsupportedMedia
from consilium.formats.limits import Limits
from consilium.modalities.ecg.files.bounds import check_samples
from consilium.modalities.ecg.files.signals import MILLIVOLTS, Floats, Signals
from consilium.modalities.ecg.files.wfdb_header import BITS, MOST_HEADER, USUAL_GAIN, Header, read_header

_MOST_MEMBERS = 64
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Others are inflated whole by `zipfile`, however little of them is asked for."""
_BROKEN = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    ValueError,
)
"""What `zipfile` and the numbers of a header raise where they are damaged."""


def read_wfdb(data: bytes, limits: Limits) -> Signals:
    """Read a zip archive of one header and its signal files.

    Raises
    ------
    InputError
        Anything that does not fit together.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _read_archive(archive, limits)
    except _BROKEN as error:
        raise InputError("zip", type(error).__name__, "must be a zip archive that is whole") from None


def _read_archive(archive: zipfile.ZipFile, limits: Limits) -> Signals:
    members = [one for one in archive.infolist() if not one.is_dir() and not one.filename.startswith("__MACOSX/")]
    if len(members) > _MOST_MEMBERS:
        raise TooLarge("zip", f"{len(members)} files", f"must hold at most {_MOST_MEMBERS}")
    by_name = {one.filename.rsplit("/", 1)[-1]: one for one in members}
    if len(by_name) < len(members):
        raise InputError("zip", "two files of one name", "must hold each file once")
    headers = [name for name in by_name if name.lower().endswith(".hea")]
    if len(headers) != 1:
        raise InputError("zip", f"{len(headers)} headers", "must hold one WFDB header (.hea) and its signal files")
    most = 4 * limits["ecg_samples"]
    header = read_header(_inflated(archive, by_name[headers[0]], MOST_HEADER))
    stored: dict[str, bytes] = {}
    for name in {signal.file for signal in header.signals}:
        if name not in by_name:
            raise InputError("zip", "a signal file is missing", "must hold every signal file that the header names")
        stored[name] = _inflated(archive, by_name[name], most, sum(len(one) for one in stored.values()))
    return _signals(header, stored, limits)


def _inflated(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int, before: int = 0) -> bytes:
    if member.flag_bits & 1:
        raise UnsupportedMedia("zip", "encrypted file", "must not be encrypted")
    if member.compress_type not in _COMPRESSIONS:
        raise UnsupportedMedia("zip", f"compression {member.compress_type}", "must be stored or deflated")
    with archive.open(member) as file:
        content = file.read(most - before + 1)
    if len(content) > most - before:
        raise TooLarge("zip", "a larger file", f"must hold files of at most {most} bytes together once inflated")
    return content


def _signals(header: Header, stored: Mapping[str, bytes], limits: Limits) -> Signals:
    groups: dict[str, list[int]] = {}
    for position, signal in enumerate(header.signals):
        groups.setdefault(signal.file, []).append(position)
    length = header.samples or min(_length(header, rows, stored[name]) for name, rows in groups.items())
    check_samples(len(header.signals), length, limits["ecg_samples"])
    if not length:
        raise InputError("header.samples", 0, "must be at least one")
    steps = np.empty((len(header.signals), length))
    warnings = []
    for name, rows in groups.items():
        first = header.signals[rows[0]]
        if any((header.signals[i].format, header.signals[i].offset) != (first.format, first.offset) for i in rows):
            raise InputError("header.signals", "formats that differ", "must be of one format in one file")
        if _length(header, rows, stored[name]) < length:
            given = f"{len(stored[name])} bytes"
            raise InputError("zip", given, f"must hold {length} samples of {len(rows)} signals: a file is cut short")
        steps[rows] = _unpacked(stored[name][first.offset :], first.format, length * len(rows)).reshape(length, -1).T
    for position, signal in enumerate(header.signals):
        row = steps[position]
        if signal.checksum is not None and (int(row.sum()) - signal.checksum) % 65536:
            warnings.append(f"lead {position + 1}: the samples do not have the checksum that the header states")
        row[row == -(2.0 ** (BITS[signal.format] - 1))] = np.nan
        if signal.skew:
            ahead = row[signal.skew :]
            row[: len(ahead)], row[len(ahead) :] = ahead.copy(), np.nan
    return Signals(
        names=[signal.name for signal in header.signals],
        millivolts=_millivolts(header, steps),
        steps=steps,
        rate=header.rate,
        source="wfdb",
        time=header.time,
        warnings=tuple(warnings),
        gains_stated=tuple(signal.gain > 0 for signal in header.signals),
    )


def _millivolts(header: Header, steps: Floats) -> Floats:
    """By the header's gains; NaN of a signal of another unit, which is no lead."""
    found = np.full_like(steps, np.nan)
    for position, signal in enumerate(header.signals):
        unit = MILLIVOLTS.get(signal.unit.lower())
        if unit is not None:
            found[position] = (steps[position] - signal.baseline) / (signal.gain or USUAL_GAIN) * unit
    return found


def _length(header: Header, rows: list[int], data: bytes) -> int:
    """How many samples of each signal a file holds."""
    first = header.signals[rows[0]]
    return max(0, len(data) - first.offset) * 8 // BITS[first.format] // len(rows)


def _unpacked(data: bytes, form: int, count: int) -> npt.NDArray[np.float64]:
    if form == 16:
        return np.frombuffer(data, "<i2", count).astype(np.float64)
    whole = np.frombuffer(data, np.uint8, -(-count * BITS[form] // 8)).astype(np.int32)
    whole = np.pad(whole, (0, -len(whole) % 3)).reshape(-1, 3)
    if form == 24:
        values = whole[:, 0] | whole[:, 1] << 8 | whole[:, 2] << 16
    else:
        even, odd = whole[:, 0] | (whole[:, 1] & 0x0F) << 8, whole[:, 2] | (whole[:, 1] & 0xF0) << 4
        values = np.stack([even, odd], axis=1).ravel()[:count]
    half = 1 << (BITS[form] - 1)
    return ((values ^ half) - half).astype(np.float64)
