"""Grid: how the voxels of a volume lie in the patient. Coordinates are those of DICOM: millimetres to the patient's
left, to the back, and to the head (LPS). Source: PS3.3 C.7.6.2.1.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import InputError, TooLarge

Floats = npt.NDArray[np.float64]

LEAST_SLICES = 4
"""Slices below which something is a picture or two, and no volume."""
_LEAST_SPACING, _MOST_SPACING = 0.01, 100.0
_LEAST_SINE = 0.5
"""Of the angle between the axes of a volume: gantries tilt by 30 degrees at the most."""
_PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Where voxels lie.

    Attributes
    ----------
    shape : (int, int, int)
        Slices, rows and columns.
    affine : float64 [4, 4]
        Column, row and slice (each from 0) and 1 → LPS coordinates of the voxel's centre, millimetres.
    """

    shape: tuple[int, int, int]
    affine: Floats

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of slices, rows and columns from each other, millimetres; of slices along their normal."""
        columns, rows = (float(np.linalg.norm(self.affine[:3, axis])) for axis in (0, 1))
        return float(abs(self.affine[:3, 2] @ self.normal)), rows, columns

    @property
    def normal(self) -> Floats:
        """Unit vector that stands on the slices."""
        cross = np.cross(self.affine[:3, 0], self.affine[:3, 1])
        return np.asarray(cross / np.linalg.norm(cross))

    @property
    def plane(self) -> str:
        """``axial``, ``coronal`` or ``sagittal``: the nearest."""
        return _PLANES[int(np.abs(self.normal).argmax())]

    def checked(self, field: str) -> Grid:
        """The grid itself.

        Raises
        ------
        InputError
            Where it is none that a scanner makes.
        """
        if not np.isfinite(self.affine).all():
            raise InputError(field, "not finite", "must place every voxel in the patient")
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        if not ((lengths >= _LEAST_SPACING) & (lengths <= _MOST_SPACING)).all():
            given = " x ".join(f"{length:.3g}" for length in lengths)
            raise InputError(field, f"{given} mm", f"must be voxels of {_LEAST_SPACING:g} to {_MOST_SPACING:g} mm")
        if abs(np.linalg.det(self.affine[:3, :3] / lengths)) < _LEAST_SINE:
            raise InputError(field, "axes that are nearly parallel", "must be axes at about right angles")
        if self.shape[0] < LEAST_SLICES:
            raise InputError("slices", self.shape[0], f"must be at least {LEAST_SLICES} of one volume")
        return self


def check_voxels(shape: tuple[int, int, int], most: int) -> None:
    """`TooLarge` of so many voxels; looked at before any of them is read."""
    if shape[0] * shape[1] * shape[2] > most:
        raise TooLarge("voxels", " x ".join(map(str, shape)), f"must be at most {most} voxels")
