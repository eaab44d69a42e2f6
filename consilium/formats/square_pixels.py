"""Pixels that are not square: resampled once, where a file is read, so that nothing behind it sees a stretched picture.

The aspect of a picture is that of its pixels: their height over their width, which is the distance between rows over
the distance between columns.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint16]

MOST_ASPECT = 10.0
"""Beyond this or its inverse, an aspect is taken for a slip of whoever wrote the file."""
_FEW = 1000
_SAME = 0.002
"""Aspects this close to 1 are rounding in the file: to resample would blur the picture and show nothing better."""


def is_constant(pixels: Pixels) -> bool:
    """Whether every pixel is alike. A few settle it for nearly every picture, without a pass over all of them."""
    flat = pixels.reshape(-1)
    few = flat[:: max(1, len(flat) // _FEW)]
    return bool(few.min() == few.max() and flat.min() == flat.max())


def possible_aspect(height: float, width: float) -> bool:
    """Whether pixels may have sides of this proportion."""
    finite = math.isfinite(height) and math.isfinite(width) and height > 0 and width > 0
    return finite and 1 / MOST_ASPECT <= height / width <= MOST_ASPECT


def with_square_pixels(pixels: Pixels, aspect: float, most_pixels: int) -> Pixels:
    """`pixels` [H, W], whose height is `aspect` times their width, resampled bilinearly to square ones.

    The finer of the two spacings is kept, so that nothing is lost, unless there would be more than `most_pixels`.
    """
    from PIL import Image as PillowImage  # which whoever only warns of an image need not have

    if abs(aspect - 1) <= _SAME:
        return pixels
    rows, columns = pixels.shape
    height, width = rows * max(aspect, 1.0), columns * max(1 / aspect, 1.0)
    shrink = min(1.0, math.sqrt(most_pixels / (height * width)))
    size = max(1, math.floor(width * shrink + 0.5)), max(1, math.floor(height * shrink + 0.5))
    picture = PillowImage.fromarray(pixels.astype(np.float32))
    resized = np.asarray(picture.resize(size, PillowImage.Resampling.BILINEAR))
    return np.rint(resized).astype(np.uint16)
