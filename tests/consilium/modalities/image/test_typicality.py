from __future__ import annotations

import numpy as np
import pytest

from consilium.modalities.image.letterbox import Letterbox
from consilium.modalities.image.typicality import image_faults


def _square(pixels: np.ndarray) -> tuple[np.ndarray, Letterbox]:
    box = Letterbox(*pixels.shape, 128)
    return box.forward(pixels), box


def _film(side: int = 128, white: float = 0.0, black: float = 0.0, flat: float = 0.0) -> np.ndarray:
    """A grey slope, of which shares of the columns are white, black, or (in the middle) of one grey."""
    film = np.tile(np.linspace(1000, 60000, side).astype(np.uint16), (side, 1))
    film[:, side - round(white * side) :] = 65535
    film[:, : round(black * side)] = 0
    start = round((1 - flat) / 2 * side)
    film[:, start : start + round(flat * side)] = 30000
    return film


@pytest.mark.parametrize(
    ("film", "fault"),
    [
        (_film(), ""),
        (np.full((100, 100), 40000, np.uint16), "is blank"),
        (_film(flat=0.9), ""),
        (_film(flat=0.97), "is blank"),
        (_film(white=0.2), ""),
        (_film(white=0.3), "is saturated: white where it should show something"),
        (_film(black=0.7), ""),
        (_film(black=0.8), "is saturated: black where it should show something"),
        (_film(64), ""),
        (_film(60), "is too small: 60 by 60 pixels, the model looks at 128"),
    ],
)
def test_image_faults(film: np.ndarray, fault: str) -> None:
    square, box = _square(film)
    assert image_faults([square], [box]) == ((f"The image {fault}.",) if fault else ())


def test_the_margins_of_a_narrow_image_are_no_fault() -> None:
    narrow = _film()[:, ::6]
    square, box = _square(narrow)
    assert (square == 0).mean() > 0.75
    assert image_faults([square], [box]) == ()


def test_the_faulty_one_of_several_images_is_named() -> None:
    squares, boxes = zip(*[_square(_film()), _square(_film(60)), _square(np.zeros((80, 80), np.uint16))], strict=True)
    faults = image_faults(squares, boxes)
    assert [fault[:7] for fault in faults] == ["Image 2", "Image 3"]
