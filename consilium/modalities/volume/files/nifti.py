"""NIfTI-1 and NIfTI-2 in one file, plain or packed by gzip. Source: nifti1.h and nifti2.h of the NIfTI standard.

Its coordinates are to the right, front and head (RAS); they become DICOM's, to the left, back and head (LPS).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import InputError, UnsupportedMedia
from consilium.formats.limits import Limits
from consilium.modalities.volume.faults import Fault
from consilium.modalities.volume.files.grid import Grid, check_voxels
from consilium.modalities.volume.files.voxels import Voxels

GZIP = b"\x1f\x8b"
_SIZES = {348: 1, 540: 2}
_MAGIC = {1: b"n+1\0", 2: b"n+2\0\r\n\032\n"}
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
_KEPT = ("u1", "i2", "u2", "f4")
"""Types that stay as they are; others become float32."""
_MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_PIECE = 1 << 20
_MOST_OFFSET = 1 << 24
_MOST_MISSING = 0.5
_MOST_PACKED = 1040
"""Bytes that gzip makes of one at the most: 1,032, and its frame."""
_LEAST_SLOPE, _MOST_SLOPE = 1e-30, 1e30
_BEHIND = "the file goes on behind the voxels that its header declares; that was not read"
_SAME_DIRECTION, _SAME_SIZE = 0.9, 0.1
"""Cosine between axes, and share by which sizes of voxels may differ, of two descriptions that say the same."""


def is_nifti(data: bytes) -> bool:
    """Whether `data` begins as a NIfTI header does."""
    return _version(data[:4]) is not None


def _version(start: bytes) -> tuple[int, str] | None:
    for order in "<>":
        if len(start) == 4 and struct.unpack(f"{order}i", start)[0] in _SIZES:
            return _SIZES[struct.unpack(f"{order}i", start)[0]], order
    return None


@dataclass(frozen=True, slots=True, eq=False)
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    affine: npt.NDArray[np.float64]
    warnings: tuple[str, ...]
    faults: tuple[Fault, ...]


def read_nifti(data: bytes, limits: Limits) -> Voxels:
    """Read a NIfTI file of one volume.

    Raises
    ------
    InputError
        A header that contradicts itself, a file that is cut short, or several volumes.
    """
    source = _Unpacked(data) if data.startswith(GZIP) else _Plain(data)
    header = _header(source)
    columns, rows, slices = header.shape
    shape = (slices, rows, columns)
    check_voxels(shape, limits["volume_voxels"])
    grid = Grid(shape, header.affine).checked("affine")
    raw = source.array(header.offset, slices * rows * columns, header.dtype).reshape(shape)
    stored: npt.NDArray[Any] = raw
    if header.dtype.str[1:] not in _KEPT:
        stored = raw.astype(np.float32)
    elif not header.dtype.isnative:
        stored = raw.astype(header.dtype.newbyteorder("="))
    warnings = [*header.warnings, *source.warnings, *_finite(stored)]
    return Voxels(
        stored=_without_missing(stored, header.slope),
        slope=header.slope,
        intercept=header.intercept,
        grid=grid,
        modality="",
        source="nifti",
        faults=header.faults,
        warnings=tuple(warnings),
    )


def _finite(stored: npt.NDArray[Any]) -> list[str]:
    if stored.dtype.kind != "f":
        return []
    missing = sum(int((~np.isfinite(one)).sum()) for one in stored)
    if missing > _MOST_MISSING * stored.size:
        raise InputError("voxels", f"{missing} of {stored.size} are no numbers", "must be numbers, at least half")
    return [f"{missing} voxels are no numbers, and were read as the lowest value"] if missing else []


def _without_missing(stored: npt.NDArray[Any], slope: float) -> npt.NDArray[Any]:
    if stored.dtype.kind != "f" or all(np.isfinite(one).all() for one in stored):
        return stored
    found = stored if stored.flags.writeable else stored.copy()
    known = np.isfinite(found)
    found[~known] = found[known].min() if slope > 0 else found[known].max()
    return found


# --- bytes -----------------------------------------------------------------------------------------------------------


class _Plain:
    """A file as it is."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.warnings: tuple[str, ...] = ()

    def start(self, count: int) -> bytes:
        return self._data[:count]

    def array(self, offset: int, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        need = offset + count * dtype.itemsize
        if len(self._data) < need:
            raise _short(len(self._data), need)
        if len(self._data) > need:
            self.warnings = (_BEHIND,)
        return np.frombuffer(self._data, dtype, count, offset)


class _Unpacked:
    """A file that gzip packed, in one part or several: hardly more of it is unpacked than its header declares."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.warnings: tuple[str, ...] = ()

    def start(self, count: int) -> bytes:
        found = bytearray()
        for piece in self._pieces():
            found += piece
            if len(found) >= count:
                break
        return bytes(found[:count])

    def array(self, offset: int, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        size = count * dtype.itemsize
        need = offset + size
        if need > len(self._data) * _MOST_PACKED:
            raise _short(len(self._data), need)
        found, place = bytearray(size), 0
        for piece in self._pieces():
            kept = memoryview(piece)[max(0, offset - place) : max(0, need - place)]
            start = max(0, place - offset)
            found[start : start + len(kept)] = kept
            place += len(piece)
            if place > need:
                self.warnings = (_BEHIND,)
                break
        if place < need:
            raise _short(place, need)
        return np.frombuffer(found, dtype)

    def _pieces(self) -> Iterator[bytes]:
        """What is packed, piece by piece; at the end of each part its checksum is looked at."""
        stream, packed, place = zlib.decompressobj(wbits=31), b"", 0
        try:
            while True:
                if not packed:
                    packed = self._data[place : place + _PIECE]
                    place += len(packed)
                piece = stream.decompress(packed, _PIECE)
                if not piece and not packed and not stream.eof:
                    raise zlib.error("cut short")
                packed = stream.unconsumed_tail
                if piece:
                    yield piece
                if stream.eof:
                    place -= len(stream.unused_data)
                    if self._data[place : place + 2] != GZIP:
                        return
                    stream, packed = zlib.decompressobj(wbits=31), b""
        except zlib.error:
            raise InputError("gzip", "damaged", "must be a gzip file that is whole") from None


def _short(held: int, need: int) -> InputError:
    return InputError("voxels", f"{held} bytes", f"must be {need} bytes with the header, which declares them")


# --- header ----------------------------------------------------------------------------------------------------------


def _header(source: _Plain | _Unpacked) -> _Header:
    data = source.start(540)
    known = _version(data[:4])
    if known is None:
        raise UnsupportedMedia("file", "no NIfTI header", "must be NIfTI or a DICOM series")
    version, order = known
    if len(data) < (348, 540)[version - 1]:
        raise InputError("header", f"{len(data)} bytes", f"must be {(348, 540)[version - 1]} bytes")
    fields = _fields_1(data, order) if version == 1 else _fields_2(data, order)
    if fields["magic"] != _MAGIC[version]:
        raise UnsupportedMedia("magic", "another", "must be NIfTI in one file (.nii)")
    shape = _shape(fields["dim"])
    if fields["datatype"] not in _TYPES:
        raise UnsupportedMedia("datatype", fields["datatype"], f"must be one of {', '.join(map(str, _TYPES))}")
    dtype = np.dtype(order + _TYPES[fields["datatype"]])
    offset = fields["vox_offset"]
    if not math.isfinite(offset) or not (348, 540)[version - 1] <= offset <= _MOST_OFFSET or offset != int(offset):
        raise InputError("vox_offset", offset, f"must be a whole number behind the header, at most {_MOST_OFFSET}")
    affine, warnings, faults = _placed(fields)
    slope, intercept = fields["scl_slope"], fields["scl_inter"]
    if not math.isfinite(slope) or slope == 0 or not math.isfinite(intercept):
        slope, intercept = 1.0, 0.0
    if not _LEAST_SLOPE <= abs(slope) <= _MOST_SLOPE or abs(intercept) > _MOST_SLOPE:
        rule = f"must be from {_LEAST_SLOPE:g} to {_MOST_SLOPE:g} without its sign, and scl_inter at most that"
        raise InputError("scl_slope", slope, rule)
    return _Header(shape, dtype, int(offset), slope, intercept, affine, tuple(warnings), tuple(faults))


def _fields_1(data: bytes, order: str) -> dict[str, Any]:
    def at(form: str, offset: int) -> tuple[Any, ...]:
        return struct.unpack_from(order + form, data, offset)

    return {
        "dim": at("8h", 40),
        "datatype": at("h", 70)[0],
        "pixdim": at("8f", 76),
        "vox_offset": at("f", 108)[0],
        "scl_slope": at("f", 112)[0],
        "scl_inter": at("f", 116)[0],
        "xyzt_units": data[123],
        "qform_code": at("h", 252)[0],
        "sform_code": at("h", 254)[0],
        "quatern": at("6f", 256),
        "srow": at("12f", 280),
        "magic": data[344:348],
    }


def _fields_2(data: bytes, order: str) -> dict[str, Any]:
    def at(form: str, offset: int) -> tuple[Any, ...]:
        return struct.unpack_from(order + form, data, offset)

    return {
        "dim": at("8q", 16),
        "datatype": at("h", 12)[0],
        "pixdim": at("8d", 104),
        "vox_offset": float(at("q", 168)[0]),
        "scl_slope": at("d", 176)[0],
        "scl_inter": at("d", 184)[0],
        "xyzt_units": at("i", 500)[0],
        "qform_code": at("i", 344)[0],
        "sform_code": at("i", 348)[0],
        "quatern": at("6d", 352),
        "srow": at("12d", 400),
        "magic": data[4:12],
    }


def _shape(dim: tuple[int, ...]) -> tuple[int, int, int]:
    count = dim[0]
    if not 1 <= count <= 7 or min(dim[1 : count + 1]) < 1:
        raise InputError("dim", "\\".join(map(str, dim)), "must be 3 sizes above 0")
    sizes = [*dim[1 : count + 1], 1, 1, 1]
    if math.prod(sizes[3:]) != 1:
        given = " x ".join(map(str, dim[1 : count + 1]))
        raise UnsupportedMedia("dim", given, "must be one volume: no times, directions or colours")
    return sizes[0], sizes[1], sizes[2]


def _placed(fields: dict[str, Any]) -> tuple[npt.NDArray[np.float64], list[str], list[Fault]]:
    """The affine to LPS: by sform, else by qform; what of it is doubtful."""
    warnings: list[str] = []
    faults: list[Fault] = []
    unit = _MILLIMETRES.get(fields["xyzt_units"] & 7)
    if unit is None:
        raise InputError("xyzt_units", fields["xyzt_units"] & 7, "must be metres, millimetres or micrometres")
    if not fields["xyzt_units"] & 7:
        warnings.append("the unit of its distances is not stated, and was read as millimetres")
    sizes = np.abs(np.array(fields["pixdim"][1:4], np.float64))
    rows = np.vstack([np.array(fields["srow"], np.float64).reshape(3, 4), [0, 0, 0, 1]])
    if fields["sform_code"] > 0:
        affine = rows
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if fields["qform_code"] > 0 and not _alike(affine, fields):
            faults.append(Fault.ORIENTATION)
            warnings.append("sform and qform contradict each other; sform was read")
        elif not (np.abs(lengths - sizes) <= _SAME_SIZE * lengths).all():
            faults.append(Fault.ORIENTATION)
            warnings.append("sform and pixdim are of voxels of different sizes; sform was read")
    elif fields["qform_code"] > 0:
        affine = _quaternion(fields)
        if fields["pixdim"][0] not in (-1, 0, 1):
            faults.append(Fault.ORIENTATION)
            warnings.append("qform does not say which way its slices run (pixdim[0])")
    else:
        affine = np.diag([*sizes, 1.0])
        faults.append(Fault.ORIENTATION)
        warnings.append("neither sform nor qform says how it lies in the patient")
    if not np.isfinite(affine).all():
        raise InputError("affine", "not finite", "must place every voxel in the patient")
    affine = _TO_LPS @ affine
    affine[:3] *= unit
    return affine, warnings, faults


def _quaternion(fields: dict[str, Any]) -> npt.NDArray[np.float64]:
    b, c, d, *shift = (float(x) for x in fields["quatern"])
    rest = 1 - b * b - c * c - d * d
    if not math.isfinite(rest) or rest < -1e-5:
        raise InputError("quatern_b", f"{b:.3g}, {c:.3g}, {d:.3g}", "must be of a rotation")
    a = math.sqrt(max(rest, 0))
    turned = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )
    sizes = [abs(float(size)) for size in fields["pixdim"][1:4]]
    if not all(map(math.isfinite, (*sizes, *shift))):
        raise InputError("affine", "not finite", "must place every voxel in the patient")
    if fields["pixdim"][0] < 0:
        sizes[2] = -sizes[2]
    affine = np.eye(4)
    affine[:3, :3] = turned * np.array(sizes)
    affine[:3, 3] = shift
    return affine


def _alike(affine: npt.NDArray[np.float64], fields: dict[str, Any]) -> bool:
    """Whether qform, which may be broken, turns the axes of the file as `affine` does."""
    try:
        other = _quaternion(fields)
    except InputError:
        return False
    own, turned = affine[:3, :3], other[:3, :3]
    lengths = np.linalg.norm(own, axis=0) * np.linalg.norm(turned, axis=0)
    return bool(((own * turned).sum(axis=0) >= _SAME_DIRECTION * lengths).all() and lengths.all())
