"""One image file of any kind, read for a model and for readers at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.formats.dicom.file_structure import is_dicom
from consilium.formats.limits import Limits
from consilium.modalities.image.files.dicom_image import read_viewed_dicom
from consilium.modalities.image.files.raster import read_raster_display
from consilium.modalities.image.image_view import GreyTable, ImageView, Quantity, grey_table
from consilium.modalities.image.records import require_raster
from consilium.modalities.presentation import Viewed

_LOW_BYTE = 257
"""A grey of 8 bits as 16: both bytes are alike."""


def read_viewed_image(data: bytes, *, field: str = "image", limits: Limits | None = None) -> Viewed:
    """Read a DICOM, PNG, JPEG or TIFF file.

    Raises
    ------
    UnsupportedMedia, UnreadableImage, TooLarge
        As `consilium.modalities.image.records.read_image` does.
    """
    if is_dicom(data):
        return read_viewed_dicom(data, field=field, limits=limits)
    require_raster(data, field)
    image, display = read_raster_display(data, field=field, limits=limits)
    words: npt.NDArray[Any]
    if np.array_equal(display, (display >> 8) * np.uint16(_LOW_BYTE)):
        words, table = (display >> 8).astype(np.uint8), GreyTable(kind="identity8")
    else:
        greys = (np.arange(2**16, dtype=np.uint16) >> 8).astype(np.uint8)
        words, (table, _) = display, grey_table(display, greys, np.zeros(2**16, np.bool_), 0)
    view = ImageView.of(
        image,
        words=words,
        bits=8 * words.dtype.itemsize,
        signed=False,
        table=table,
        padding=None,
        quantity=Quantity(slope=1.0, intercept=0.0),
        windows=(),
        photometric=None,
        spacing_source=None,
    )
    return Viewed(image, view, words, None)
