"""How a stored image is shown: its words, and the grey that the model's reading gives each of them."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from consilium.domain.wire import Wire
from consilium.modalities.image.image_record import Image, ViewPosition
from consilium.modalities.presentation import FileView, FileViewing


class GreyTable(Wire):
    """The grey of each word. `identity8`: the words are greys. `lut`: `greys[word - first]`."""

    kind: Literal["identity8", "lut"]
    first: int | None = None
    """The lowest word of the image."""
    greys: str | None = None
    """Base64 of a byte for each word from `first` on, 0 black to 255 white, up to the image's highest word."""


class Padding(Wire):
    """Words from `low` to `high` pad the image: they are no part of the patient, and black."""

    low: int
    high: int


class Quantity(Wire):
    """A word times `slope` plus `intercept` is the quantity that windows are about."""

    slope: float
    intercept: float


class ViewWindow(Wire):
    """A window of the file, in quantities."""

    center: float
    width: float


class ImageView(FileView):
    """One image of a stored study, and how its words become the greys that the model's reading gave.

    The words are those of the file, in its own grid, row by row; colours come as their luminance.
    """

    rows: int
    columns: int
    bits: Literal[8, 16]
    signed: bool
    table: GreyTable
    padding: Padding | None
    quantity: Quantity | None
    """Null where a word is no linear measure of anything: of colours, palettes and tables."""
    windows: tuple[ViewWindow, ...]
    spacing_mm: tuple[float, float] | None
    """Between rows and between columns."""
    spacing_source: str | None
    """DICOM element of the spacing: `PixelSpacing` is calibrated at the patient, `ImagerPixelSpacing` lies at the
    detector, where the patient appears enlarged."""
    view: ViewPosition
    laterality: Literal["R", "L", "U", "B"] | None
    acquired: datetime | None
    photometric: str | None = Field(description="DICOM's Photometric Interpretation; null of other files.")
    source: str
    """`dicom`, `png`, `jpeg` or `tiff`."""
    burned_in: bool | None
    """Whether the file says that text is burned into the image."""
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, image: Image, words: npt.NDArray[Any], spacing_source: str | None, **display: Any) -> ImageView:
        """The view of `image`, whose `words` lie in the grid of the file."""
        rows, columns = words.shape
        return cls(
            digest=image.digest,
            rows=rows,
            columns=columns,
            spacing_mm=image.pixel_spacing,
            spacing_source=spacing_source,
            view=image.view,
            laterality=image.laterality,
            acquired=image.acquired,
            source=image.source,
            burned_in=image.burned_in,
            warnings=image.warnings,
            **display,
        )


def grey_table(
    words: npt.NDArray[Any], greys: npt.NDArray[np.uint8], padding: npt.NDArray[np.bool_], first: int
) -> tuple[GreyTable, Padding | None]:
    """The part of a table that `words` need, and the range of words that pad the image; None where they are no range.

    Parameters
    ----------
    greys, padding
        Of each word from `first` on.
    """
    low, high = int(words.min()), int(words.max())
    part = slice(low - first, high - first + 1)
    pads = np.flatnonzero(padding[part])
    table = GreyTable(kind="lut", first=low, greys=base64.b64encode(greys[part].tobytes()).decode())
    if not len(pads) or pads[-1] - pads[0] >= len(pads):
        return table, None
    return table, Padding(low=low + int(pads[0]), high=low + int(pads[-1]))


VIEWING = FileViewing(wire=ImageView, read="consilium.modalities.image.files.viewed_file:read_viewed_image")
