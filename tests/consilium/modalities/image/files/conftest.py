"""Whatever a test of this folder reads is also read for a viewer, which must see the same greys."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from consilium.formats.limits import Limits
from consilium.formats.square_pixels import with_square_pixels
from consilium.modalities.image.files import dicom_image, raster
from consilium.modalities.image.files.viewed_file import read_viewed_image
from consilium.modalities.image.image_record import Image
from consilium.modalities.presentation import Viewed


def greys_of(viewed: Viewed) -> np.ndarray:
    """What a viewer shows: its words through its table."""
    table = viewed.view.table
    if table.kind == "identity8":
        assert viewed.words.dtype == np.uint8
        return viewed.words
    greys = np.frombuffer(base64.b64decode(table.greys), np.uint8)
    return greys[viewed.words.astype(np.int64) - table.first]


def check_view(data: bytes, image: Image, limits: Limits | None) -> None:
    viewed = read_viewed_image(data, limits=limits)
    greys = greys_of(viewed)
    assert greys.shape == (viewed.view.rows, viewed.view.columns) == (image.grid or image.shape)
    assert viewed.view.bits == 8 * viewed.words.dtype.itemsize
    assert viewed.view.signed == (viewed.words.dtype.kind == "i")
    assert viewed.view.digest == image.digest
    np.testing.assert_array_equal(viewed.record.pixels, image.pixels)
    if image.pixels.shape == greys.shape:
        np.testing.assert_array_equal(greys, image.pixels >> 8)
    else:
        aspect = image.pixels.shape[0] / greys.shape[0] / (image.pixels.shape[1] / greys.shape[1])
        square = with_square_pixels(greys.astype(np.uint16) * 257, aspect, image.pixels.size)
        assert square.shape == image.pixels.shape
        assert np.abs(square.astype(int) - image.pixels).max() <= 256
    if viewed.view.padding is not None:
        pads = (viewed.words >= viewed.view.padding.low) & (viewed.words <= viewed.view.padding.high)
        assert not greys[pads].any()


@pytest.fixture(autouse=True)
def every_file_is_viewed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, read in (("read_dicom", dicom_image.read_dicom), ("read_raster", raster.read_raster)):

        def checked(data, *, field="image", limits=None, read=read):
            image = read(data, field=field, limits=limits)
            check_view(data, image, limits)
            return image

        if hasattr(request.module, name):
            monkeypatch.setattr(request.module, name, checked)
