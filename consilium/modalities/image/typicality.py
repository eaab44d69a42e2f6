"""Images out of the ordinary: those that show nothing, or what the model was not trained on by what their file says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from consilium.modalities.image.letterbox import IMAGES, Letterbox
from consilium.modalities.image.preparation import ImagePart
from consilium.modalities.typicality import Typicality

FLAT = 0.95
"""An image is blank where one of its 256 grey levels holds this share of its pixels."""
WHITE, BLACK = 0.25, 0.75
"""An image is saturated where this share of its pixels is purely white, or purely black.

Of 247 public radiographs the most had 3 % white, 46 % black and 49 % of one grey level.
"""
LEAST_SCALE = 0.5
"""An image is too small where its longer side has less than this share of the pixels of the model's square."""


def _quality(part: ImagePart) -> tuple[str, ...]:
    return image_faults(part.arrays[IMAGES], part.letterboxes)


def _unknown_origin(part: ImagePart) -> tuple[str, ...]:
    return tuple(f"{remark}." for remark in part.unknown_origin)


def image_faults(squares: Iterable[npt.NDArray[np.uint16]], boxes: Sequence[Letterbox]) -> tuple[str, ...]:
    """What is wrong with the images of a study, by the model's squares [S, S] without their margins."""
    faults = []
    for number, (square, box) in enumerate(zip(squares, boxes, strict=True), start=1):
        fault = _fault(square, box)
        if fault:
            faults.append(f"{'The image' if len(boxes) == 1 else f'Image {number}'} {fault}.")
    return tuple(faults)


def _fault(square: npt.NDArray[np.uint16], box: Letterbox) -> str:
    (top, left), (height, width) = box.offset, box.inner
    levels = np.bincount((square[top : top + height, left : left + width] >> 8).ravel(), minlength=256)
    shares = levels / levels.sum()
    if shares.max() >= FLAT:
        return "is blank"
    if shares[-1] >= WHITE or shares[0] >= BLACK:
        return f"is saturated: {'white' if shares[-1] >= WHITE else 'black'} where it should show something"
    if max(box.rows, box.columns) < LEAST_SCALE * box.side:
        return f"is too small: {box.rows} by {box.columns} pixels, the model looks at {box.side}"
    return ""


TYPICALITY = Typicality(checks={"image_quality": _quality, "unknown_origin": _unknown_origin})
