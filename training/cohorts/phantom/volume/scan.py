"""A small CT from evidence and nuisance: a chest of ellipsoids, with a blob for each piece of evidence."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

SHAPE = (24, 32, 32)
"""Slices from feet to head, rows from back to front, columns from left to right: as NIfTI has them (RAS)."""
SPACING = 8.0
CHANNELS = ("basal", "central", "dorsal", "apical")
_PLACES = {
    # slice, row, column of the centre, Hounsfield units at evidence 0 and for each unit more
    "basal": (7, 15, 23, 260.0, 130.0),
    "central": (11, 18, 14, 60.0, 40.0),
    "dorsal": (8, 10, 8, 260.0, 130.0),
    "apical": (17, 19, 8, 260.0, 130.0),
}
_RADIUS = 2.4
_MOVED = 1.0
"""Standard deviation of the blobs' centres, voxels."""
_NOISE, _DENSITY = 40.0, 10.0
_AIR, _TISSUE, _LUNG = -1000.0, 40.0, -800.0
_VISIBLE = 0.35
"""Share of a blob's height down to which it counts as the place of its evidence."""

Floats = npt.NDArray[np.float64]


def draw_volume(evidence: Floats, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """Hounsfield units [24, 32, 32].

    Parameters
    ----------
    evidence : float64 [4]
        `CHANNELS`: how dense the blob is at each of four places.
    rng : Generator
        Nuisance: where the blobs are, how dense the lungs are, noise.
    """
    blobs = _blobs(rng)
    z, y, x = (np.arange(side, dtype=np.float64) for side in SHAPE)
    grid = np.meshgrid(z, y, x, indexing="ij")
    scan = np.full(SHAPE, _AIR)
    scan[_ellipsoid(grid, (11.5, 15.5, 15.5), (30, 11.5, 14.5))] = _TISSUE
    density = _DENSITY * rng.normal(size=2)
    for side, own in zip((8.5, 22.5), density, strict=True):
        scan[_ellipsoid(grid, (11.5, 15.5, side), (11, 8.5, 5.5))] = _LUNG + own
    for blob, (_, _, _, base, gain), strength in zip(blobs, _PLACES.values(), evidence, strict=True):
        scan += (base + gain * strength) * blob
    scan += _NOISE * rng.normal(size=SHAPE)
    return np.clip(np.rint(scan), -1024, 3071).astype(np.int16)


def places(rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Where each piece of evidence shows, bool [4, 24, 32, 32], of the scan that a new `rng` of the same seed draws."""
    return np.stack(_blobs(rng)) > _VISIBLE


def _blobs(rng: np.random.Generator) -> list[Floats]:
    grid = np.meshgrid(*(np.arange(side, dtype=np.float64) for side in SHAPE), indexing="ij")
    moved = _MOVED * rng.normal(size=(len(_PLACES), 3))
    found = []
    for (*centre, _, _), shift in zip(_PLACES.values(), moved, strict=True):
        squared = sum(((axis - c - s) / _RADIUS) ** 2 for axis, c, s in zip(grid, centre, shift, strict=True))
        found.append(np.exp(-0.5 * np.asarray(squared)))
    return found


def _ellipsoid(
    grid: Sequence[Floats], centre: tuple[float, float, float], radii: tuple[float, float, float]
) -> npt.NDArray[np.bool_]:
    squared = sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radii, strict=True))
    return np.asarray(squared) <= 1


def as_nifti(scan: npt.NDArray[np.int16]) -> bytes:
    """A NIfTI-1 file, packed by gzip; the same bytes for the same integers."""
    slices, rows, columns = scan.shape
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, columns, rows, slices, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, 4, 16)
    struct.pack_into("<8f", head, 76, 1, SPACING, SPACING, SPACING, 0, 0, 0, 0)
    struct.pack_into("<3f", head, 108, 352, 1, 0)
    head[123] = 2
    struct.pack_into("<2h", head, 252, 0, 1)
    middle = [-SPACING * (side - 1) / 2 for side in (columns, rows, slices)]
    affine = [SPACING, 0, 0, middle[0], 0, SPACING, 0, middle[1], 0, 0, SPACING, middle[2]]
    struct.pack_into("<12f", head, 280, *affine)
    head[344:348] = b"n+1\0"
    return gzip.compress(bytes(head) + scan.astype("<i2").tobytes(), compresslevel=1, mtime=0)
