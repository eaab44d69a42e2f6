"""Images that are no chest radiograph from the front, or a chest radiograph that was spoilt."""

from __future__ import annotations

from functools import cache
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from skimage import data

Pixels = npt.NDArray[np.uint16] | npt.NDArray[np.uint8]

_WHITE = 65535
_PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "rocket", "coins", "brick", "grass", "gravel")
"""Samples that lie in scikit-image's own package; the others would be downloaded."""


def photograph(rng: np.random.Generator, size: int) -> npt.NDArray[np.uint8]:
    """A crop, at least half of each side, of one of scikit-image's sample photographs, mirrored or not."""
    del size
    picture = _sample(str(rng.choice(_PHOTOGRAPHS)))
    rows, columns = (int(rng.integers(side // 2, side + 1)) for side in picture.shape[:2])
    top, left = (int(rng.integers(0, side - n + 1)) for side, n in zip(picture.shape, (rows, columns), strict=False))
    crop = picture[top : top + rows, left : left + columns]
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


@cache
def _sample(name: str) -> npt.NDArray[np.uint8]:
    return np.asarray(getattr(data, name)(), np.uint8)


def white_noise(rng: np.random.Generator, size: int) -> npt.NDArray[np.uint16]:
    """Independent pixels: what an unconnected detector gives."""
    return rng.integers(0, _WHITE + 1, (size, size), dtype=np.uint16)


def blank(rng: np.random.Generator, size: int) -> npt.NDArray[np.uint16]:
    """Nothing in the beam: one grey, and in half of the cases a little more on one side (the heel effect)."""
    grey = np.full((size, size), rng.uniform(0.1, 0.9))
    if rng.random() < 0.5:
        grey += np.linspace(-0.05, 0.05, size)[:, None]
    return np.rint(grey * _WHITE).astype(np.uint16)


def inverted(pixels: npt.NDArray[np.uint16], rng: np.random.Generator) -> npt.NDArray[np.uint16]:
    """Black for white, as where a file's photometric interpretation is wrong."""
    del rng
    return np.uint16(_WHITE) - pixels


def rotated(pixels: npt.NDArray[np.uint16], rng: np.random.Generator) -> npt.NDArray[np.uint16]:
    """Turned by a right angle, to either side."""
    return np.ascontiguousarray(np.rot90(pixels, 1 if rng.random() < 0.5 else 3))


def shifted_exposure(pixels: npt.NDArray[np.uint16], rng: np.random.Generator) -> npt.NDArray[np.uint16]:
    """Another display curve (gamma .6 or 1.7) and the quantum noise of too low a dose."""
    share = np.power(pixels / _WHITE, 0.6 if rng.random() < 0.5 else 1.7)
    noisy = np.clip(share + rng.normal(0, 0.03, pixels.shape), 0, 1)
    return np.rint(noisy * _WHITE).astype(np.uint16)


def as_png(pixels: Pixels) -> bytes:
    """A PNG of grey (8 or 16 bits) or colour (8 bits) `pixels`."""
    file = BytesIO()
    Pillow.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
