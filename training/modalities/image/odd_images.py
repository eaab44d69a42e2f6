"""Images that are no chest radiograph from the front, or a chest radiograph that was spoilt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from skimage import data

from consilium.domain.study import Study
from consilium.modalities.image.image_record import Image, ViewPosition
from consilium.modalities.image.records import read_image
from training.cohorts.phantom.image.other_parts import draw_lateral, draw_limb
from training.cohorts.phantom.image.radiograph import BITS, Radiograph
from training.evaluation.out_of_distribution.kinds import Case, Change, Kind

_NAME = "image"
_LARGEST = 256
"""Side of a made image, pixels, at most; models look at squares of about this size."""
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


# --- in a study ------------------------------------------------------------------------------------------------------


def _made(make: Callable[[np.random.Generator, int], Pixels], view: ViewPosition | None = None) -> Change:
    """Each image replaced by one that is made for a generator and a side in pixels."""

    def change(case: Case, rng: np.random.Generator) -> Study:
        sides = [min(max(image.shape), _LARGEST) for image in _images(case)]
        return _with_pixels(case, [make(rng, side) for side in sides], view)

    return change


def _spoilt(spoil: Callable[[npt.NDArray[np.uint16], np.random.Generator], npt.NDArray[np.uint16]]) -> Change:
    """Each image's own pixels, changed."""

    def change(case: Case, rng: np.random.Generator) -> Study:
        contents = [file.path.read_bytes() for file in case.record.files[_NAME]]
        by_digest = {hashlib.sha256(content).hexdigest(): content for content in contents}
        pixels = [read_image(by_digest[image.digest]).pixels for image in _images(case)]
        return _with_pixels(case, [spoil(one, rng) for one in pixels])

    return change


def _other_device(case: Case, rng: np.random.Generator) -> Study:
    """From the device that no site has."""
    del rng
    assert case.renderer is not None
    radiograph: Radiograph = case.renderer.render(_NAME, case.study.study_id, unseen_device=True)
    return _with_pixels(case, [radiograph.pixels << np.uint16(16 - BITS)])


def _images(case: Case) -> tuple[Image, ...]:
    return case.study.parts[_NAME]


def _with_pixels(case: Case, made: list[Pixels], view: ViewPosition | None = None) -> Study:
    """The study with images read from files of these pixels; when they were taken, and from where, stays."""
    read = [read_image(as_png(pixels)) for pixels in made]
    images = [
        replace(new, view=view or old.view, acquired=old.acquired) for new, old in zip(read, _images(case), strict=True)
    ]
    return case.study.with_parts(**{_NAME: images})


KINDS: tuple[Kind, ...] = (
    Kind("photograph", _NAME, True, _made(photograph)),
    Kind("noise", _NAME, True, _made(white_noise)),
    Kind("blank", _NAME, True, _made(blank)),
    Kind("other body part", _NAME, True, _made(draw_limb)),
    Kind("inverted", _NAME, True, _spoilt(inverted)),
    Kind("rotated", _NAME, True, _spoilt(rotated)),
    Kind("lateral view", _NAME, False, _made(draw_lateral, ViewPosition.LATERAL)),
    Kind("shifted exposure", _NAME, False, _spoilt(shifted_exposure)),
    Kind("other device", _NAME, False, _other_device, rendered=True),
)
