"""Slices as grey pictures, as they are looked at: head or front up, the patient's right on the left. Without torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from consilium.modalities.volume.files.grid import Grid
from consilium.modalities.volume.volume_record import Volume

_LONGEST_SIDE = 256
_CT_WINDOW = (-160.0, 240.0)


def pictures(record: Volume) -> npt.NDArray[np.uint8]:
    """Every slice, uint8 [Z, H, W], with every second or further pixel where it is too large; not turned."""
    if record.shown is not None:
        return record.shown
    step = shrunk_by(record.grid)
    _, rows, columns = record.grid.shape
    out = np.empty((record.grid.shape[0], -(-rows // step), -(-columns // step)), np.uint8)
    for place in range(len(out)):
        out[place] = _grey(record, place, step)
    return out


def picture(record: Volume, place: int) -> npt.NDArray[np.uint8]:
    """One slice, uint8 [H, W], as `pictures` has it."""
    return _grey(record, place, shrunk_by(record.grid)) if record.shown is None else record.shown[place]


def shrunk_by(grid: Grid) -> int:
    """Every how many pixels of a slice one is shown."""
    return -(-max(grid.shape[1:]) // _LONGEST_SIDE)


def _grey(record: Volume, place: int, step: int) -> npt.NDArray[np.uint8]:
    values = record.voxels[place, ::step, ::step] * np.float32(record.slope) + np.float32(record.intercept)
    low, high = _range(record)
    share = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
    return np.rint(255 * share).astype(np.uint8)


def _range(record: Volume) -> tuple[float, float]:
    return _CT_WINDOW if record.modality == "CT" else record.scale


def turned(picture: npt.NDArray, grid: Grid) -> npt.NDArray:
    """A slice [H, W, ...] of `grid`, as a radiologist looks at it.

    Columns run to the left or the back of the patient, rows to the back or the feet.
    """
    across, down = grid.affine[:3, 0], grid.affine[:3, 1]
    # What a picture shows across is the side that comes first of left, back, head; obliquely, the two are shared out.
    first, second = (axis for axis in range(3) if axis != int(np.abs(grid.normal).argmax()))
    if abs(across[second] * down[first]) > abs(across[first] * down[second]):
        picture = np.swapaxes(picture, 0, 1)
        across, down = down, across
    if across[first] < 0:
        picture = picture[:, ::-1]
    if (down[second] < 0) == (second == 1):
        picture = picture[::-1]
    return picture
