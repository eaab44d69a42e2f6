"""Voxels as they are stored, and what makes values of them: one array, whatever it is read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.modalities.volume.faults import Fault
from consilium.modalities.volume.files.grid import Grid

Values = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Voxels:
    """One volume as a file has it.

    Attributes
    ----------
    stored : ndarray [slices, rows, columns]
        uint8, int16, uint16 or float32. ``stored * slope + intercept`` are the values.
    modality : str
        ``CT``, ``MR``, or empty where the file does not say.
    source : str
        ``dicom`` or ``nifti``.
    chosen : str
        Why this volume of those that were sent; empty where there was one.
    known : mapping
        What the header says of patient and origin, by attributes of the record.
    """

    stored: npt.NDArray[Any]
    slope: float
    intercept: float
    grid: Grid
    modality: str
    source: str
    thickness: float | None = None
    chosen: str = ""
    faults: tuple[Fault, ...] = ()
    warnings: tuple[str, ...] = ()
    time: datetime | None = None
    known: Mapping[str, Any] = field(default_factory=dict)
