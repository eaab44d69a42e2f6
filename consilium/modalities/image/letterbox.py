"""An image of any shape into a model's square and back: aspect kept, nothing cropped, geometry remembered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from consilium.modalities.converter import Converter, NotConverted
from consilium.modalities.image.image_record import Image

IMAGES = "images"
"""Name of the array of squares in a study's part."""
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

    @property
    def place(self) -> tuple[float, float, float, float]:
        """Top, left, height and width of the whole square in pixels of the file."""
        rows, columns = self.grid or (self.rows, self.columns)
        (top, left), (height, width) = self.offset, self.inner
        down, across = rows / height, columns / width
        return -top * down, -left * across, self.side * down, self.side * across

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


class SquareConverter(Converter):
    """An Image as a square of `side` pixels, uint16 [S, S]."""

    array = IMAGES
    dtype = np.uint16
    in_decoder = True

    def __init__(self, side: int) -> None:
        self.side = side
        self.key = f"letterbox{VERSION}-{self.side}"
        self.shape = (self.side, self.side)

    def __call__(self, record: Image) -> npt.NDArray[np.uint16]:
        if record.condensed_to is None:
            return Letterbox(*record.shape, self.side).forward(record.pixels)
        try:
            return record.condensed_to.arrays[self.key]
        except KeyError:
            raise NotConverted(f"an image was condensed without {self.key}") from None

    def facts(self, record: Image) -> dict[str, Any]:
        return record.facts()

    def stand_in(self, digest: str, facts: Mapping[str, Any]) -> Image:
        return Image.of_facts(digest, facts)

    def fault(self, array: npt.NDArray[np.uint16]) -> str:
        return "" if array.any() else "must show something, the image is blank"
