"""16-bit colour TIFF whose colours lie in planes, one behind the other: Pillow keeps 8 bits of these, or takes others.

Each plane becomes a TIFF of its own, of grey: the same bytes with another directory of tags behind them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from PIL import Image as PillowImage
from PIL.TiffTags import LONG, SHORT

_PLANAR_CONFIGURATION, _SEPARATE = 284, 2
_BITS_PER_SAMPLE, _PHOTOMETRIC, _BLACK_IS_ZERO, _SAMPLES_PER_PIXEL, _RGB = 258, 262, 1, 277, 2
_ORIENTATION = 274
_SAMPLE_FORMAT, _UNSIGNED = 339, 1
_COPIED = {256: LONG, 257: LONG, 259: SHORT, 266: SHORT, 278: LONG, 317: SHORT, 322: LONG, 323: LONG}
"""Width, length, compression, fill order, rows per strip, predictor, size of tiles."""
_PER_PLANE = (273, 279, 324, 325)
"""Offsets and sizes of strips and tiles: those of the first plane, then those of the second, and so on."""
_CODES = {SHORT: "H", LONG: "I"}


def deep_planes(picture: PillowImage.Image, data: bytes, turn: int) -> tuple[bytes, ...]:
    """The planes of a picture, each a TIFF of 16-bit grey; none where it is no RGB TIFF of unsigned 16-bit planes.

    `turn` is the file's orientation, which a picture that was loaded no longer says.

    Source: TIFF 6.0, sections 8 (PlanarConfiguration) and 15.
    """
    tags = getattr(picture, "tag_v2", {})
    bits = tags.get(_BITS_PER_SAMPLE, ())
    if tags.get(_PLANAR_CONFIGURATION) != _SEPARATE or tags.get(_PHOTOMETRIC) != _RGB or set(bits) != {16}:
        return ()
    if set(tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))) != {_UNSIGNED}:
        return ()
    return tuple(_plane(data, tags, turn, number, len(bits)) for number in range(len(bits)))


def _plane(data: bytes, tags: Mapping[int, object], turn: int, number: int, planes: int) -> bytes:
    fields: dict[int, tuple[int, tuple[int, ...]]] = {
        _BITS_PER_SAMPLE: (SHORT, (16,)),
        _PHOTOMETRIC: (SHORT, (_BLACK_IS_ZERO,)),
        _SAMPLES_PER_PIXEL: (SHORT, (1,)),
        _ORIENTATION: (SHORT, (turn,)),
    }
    for tag, kind in _COPIED.items():
        if tag in tags:
            fields[tag] = kind, _numbers(tags[tag])
    for tag in _PER_PLANE:
        if tag in tags:
            written = _numbers(tags[tag])
            each = len(written) // planes
            fields[tag] = LONG, written[number * each : (number + 1) * each]
    return _with_directory(data, fields)


def _numbers(value: object) -> tuple[int, ...]:
    return tuple(int(one) for one in value) if isinstance(value, Iterable) else (int(str(value)),)


def _with_directory(data: bytes, fields: dict[int, tuple[int, tuple[int, ...]]]) -> bytes:
    """A TIFF with these tags instead of its own, and everything else where it was."""
    order = "<" if data.startswith(b"II") else ">"
    start = len(data) + len(data) % 2
    behind = start + 2 + 12 * len(fields) + 4
    entries, long_values = b"", b""
    for tag, (kind, values) in sorted(fields.items()):
        packed = struct.pack(f"{order}{len(values)}{_CODES[kind]}", *values)
        if len(packed) > 4:
            place = struct.pack(f"{order}I", behind + len(long_values))
            long_values += packed
        else:
            place = packed.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + place
    directory = struct.pack(f"{order}H", len(fields)) + entries + bytes(4) + long_values
    return data[:4] + struct.pack(f"{order}I", start) + data[8:].ljust(start - 8, b"\0") + directory
