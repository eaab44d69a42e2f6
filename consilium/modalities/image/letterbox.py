"""An image of any shape into a model's square and back: aspect kept, nothing cropped, geometry remembered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

VERSION = 2
"""Raised whenever the same image would come out differently; part of the key of every cached image."""

_WHITE = 65535
_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where an image of `rows` × `columns` square pixels lies in a square of `side` pixels.

    Attributes
    ----------
    grid : (int, int) or None
        Rows and columns of the file, onto which `backward` maps, where its pixels are not square; None: the same.
    """

    rows: int
    columns: int
    side: int
    grid: tuple[int, int] | None = None

    @property
    def inner(self) -> tuple[int, int]:
        """Rows and columns that the image takes in the square."""
        scale = self.side / max(self.rows, self.columns)
        return max(1, round(self.rows * scale)), max(1, round(self.columns * scale))

    @property
    def offset(self) -> tuple[int, int]:
        """First row and column of the image in the square."""
        height, width = self.inner
        return (self.side - height) // 2, (self.side - width) // 2

    def forward(self, pixels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
        """`pixels` [H, W] into [S, S]: resampled with an anti-aliasing filter, intensities stretched to the full range.

        The stretch takes the 0.5th and 99.5th percentile of the resampled image, so that exposure and display window
        matter little. A constant image becomes black.
        """
        height, width = self.inner
        # Pillow reads these pixels where they lie, and makes the floating-point copy itself, in half of the time.
        resized = Pillow.fromarray(pixels).convert("F").resize((width, height), Pillow.Resampling.BILINEAR)
        values = np.asarray(resized)
        low, high = np.percentile(values, _PERCENTILES)
        out = np.zeros((self.side, self.side), np.uint16)
        if high > low:
            top, left = self.offset
            stretched = np.clip((values - low) / (high - low), 0, 1) * _WHITE
            out[top : top + height, left : left + width] = np.rint(stretched).astype(np.uint16)
        return out

    def backward(self, cells: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """A map over the square ([h, w] cells, any number) onto the original pixels of the file, bilinearly."""
        square = Pillow.fromarray(cells.astype(np.float32))
        top, left = self.offset
        height, width = self.inner
        down, across = cells.shape[0] / self.side, cells.shape[1] / self.side
        box = (left * across, top * down, (left + width) * across, (top + height) * down)
        rows, columns = self.grid or (self.rows, self.columns)
        resized = square.resize((columns, rows), Pillow.Resampling.BILINEAR, box=box)
        return np.asarray(resized, dtype=np.float32)
