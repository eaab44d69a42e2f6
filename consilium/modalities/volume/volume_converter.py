"""A volume as the array that models read: upright, of one spacing and size, its windows as channels. Without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.modalities.converter import Converter, NotConverted
from consilium.modalities.volume.files.grid import Floats, Grid
from consilium.modalities.volume.section import VolumeSection
from consilium.modalities.volume.volume_record import Volume

VOLUMES = "volumes"
OUTSIDE, LOWEST, HIGHEST = 0, 1, 255
"""Where there is no voxel of the file; the darkest and the brightest of a window."""


class VolumeConverter(Converter):
    """A volume as uint8 [C, D, H, W]: head first, front first, right first; `OUTSIDE` where nothing was sent.

    Voxels that are finer than what is read are averaged, then interpolated linearly; the middle of the volume is the
    middle of what is read.
    """

    array = VOLUMES
    dtype = np.uint8
    in_decoder = True

    def __init__(self, section: VolumeSection) -> None:
        self.spacing, self.size = section.spacing, section.size
        self.windows = section.windows if section.intensities == "hounsfield" else ()
        self.shape = (section.channels, *section.size)
        shown = "-".join("_".join(f"{x:g}" for x in row) for row in (section.spacing, section.size, *self.windows))
        self.key = f"volume1-{section.intensities[0]}-{shown}"

    def __call__(self, record: Volume, /) -> npt.NDArray[np.uint8]:
        if record.condensed_to is not None:
            if self.key not in record.condensed_to:
                raise NotConverted(f"the volume was condensed without {self.key}")
            found: npt.NDArray[np.uint8] = record.condensed_to[self.key]
            return found
        averaged, steps = _averaged(record, self.spacing)
        places = self.to_voxels(record.grid)
        # The centre of a block of n voxels is that of its middle.
        for axis, step in zip((2, 1, 0), steps, strict=True):
            places[axis, 3] -= (step - 1) / 2
            places[axis] /= step
        resampled, inside = _interpolated(averaged, places, self.size)
        out = np.zeros(self.shape, np.uint8)
        for channel, (low, high) in enumerate(self._ranges(resampled, inside)):
            share = np.clip((resampled - low) / (high - low), 0, 1) if high > low else np.zeros_like(resampled)
            out[channel] = np.where(inside, np.rint(LOWEST + share * (HIGHEST - LOWEST)), OUTSIDE)
        return out

    def _ranges(self, values: Floats, inside: npt.NDArray[np.bool_]) -> list[tuple[float, float]]:
        if self.windows:
            return [(centre - width / 2, centre + width / 2) for centre, width in self.windows]
        low, high = np.percentile(values[inside], [1, 99]) if inside.any() else (0.0, 0.0)
        return [(float(low), float(high))]

    def to_voxels(self, grid: Grid) -> Floats:
        """Affine [3, 4] from depth, row, column of what is read and 1 to column, row and slice of the file."""
        middle = grid.affine @ np.array([*((side - 1) / 2 for side in grid.shape[::-1]), 1.0])
        to_patient = np.zeros((4, 4))
        # Depth runs to the feet, rows to the back, columns to the left: as an axial picture is looked at.
        for axis, (row, sign) in enumerate(((2, -1), (1, 1), (0, 1))):
            to_patient[row, axis] = sign * self.spacing[axis]
            to_patient[row, 3] = middle[row] - sign * self.spacing[axis] * (self.size[axis] - 1) / 2
        to_patient[3, 3] = 1
        return np.asarray((np.linalg.inv(grid.affine) @ to_patient)[:3])

    def facts(self, record: Volume) -> Mapping[str, Any]:
        return record.facts()

    def stand_in(self, digest: str, facts: Mapping[str, Any]) -> Volume:
        return Volume.of_facts(digest, facts)

    def fault(self, array: npt.NDArray[Any]) -> str:
        return "" if (array != OUTSIDE).any() else "must have voxels where the model looks"


def _averaged(record: Volume, spacing: tuple[float, float, float]) -> tuple[npt.NDArray[np.float32], tuple[int, ...]]:
    """Mean values of blocks of voxels about as large as the `spacing`, and voxels of a block along each axis.

    Slab by slab: of the whole volume there is never a second copy.
    """
    steps = _block(record.grid, spacing)
    slices, rows, columns = record.grid.shape
    deep, high, wide = steps
    out = np.empty((-(-slices // deep), -(-rows // high), -(-columns // wide)), np.float32)
    for place in range(len(out)):
        slab = record.values(place * deep, min((place + 1) * deep, slices)).mean(axis=0, dtype=np.float32)
        for axis, step in enumerate((high, wide)):
            if step > 1:
                starts = np.arange(0, slab.shape[axis], step)
                counts = np.diff(np.r_[starts, slab.shape[axis]]).astype(np.float32)
                slab = np.add.reduceat(slab, starts, axis=axis) / (counts[:, None] if axis == 0 else counts)
        out[place] = slab
    return out, steps


def _block(grid: Grid, spacing: tuple[float, float, float]) -> tuple[int, int, int]:
    """Voxels that are averaged along slices, rows and columns: as many as fit into what is read along that axis."""
    found = []
    for axis in (2, 1, 0):
        own = grid.affine[:3, axis]
        wanted = spacing[2 - int(np.abs(own).argmax())]
        found.append(max(1, int(wanted / float(np.linalg.norm(own)) + 1e-6)))
    return found[0], found[1], found[2]


def _interpolated(
    values: npt.NDArray[np.float32], places: Floats, size: tuple[int, int, int]
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """`values` at the `places` of a box, and where these are within them."""
    from scipy.ndimage import map_coordinates

    steps = np.meshgrid(*(np.arange(side, dtype=np.float64) for side in size), indexing="ij")
    at = [sum(places[axis, i] * steps[i] for i in range(3)) + places[axis, 3] for axis in (2, 1, 0)]
    inside = np.ones(size, np.bool_)
    for place, side in zip(at, values.shape, strict=True):
        inside &= (place >= -0.5) & (place <= side - 0.5)
    found = map_coordinates(values, at, order=1, mode="nearest", output=np.float64)
    return np.asarray(found), inside
