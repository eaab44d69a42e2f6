"""A saliency map becomes a picture that a viewer lays over the image."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image as Picture

from consilium.api.schemas import Overlay
from consilium.domain.diagnosis import ImageSaliency

_UNSEEN = 0
_ZERO = 128
_STEPS = 127
_FOR = (178, 24, 43)
_AGAINST = (33, 102, 172)
_MOST_OPAQUE = 200


def overlay(saliency: ImageSaliency) -> Overlay:
    """The palette PNG that `Overlay` describes, in the pixel grid of `saliency`."""
    rows, columns = saliency.values.shape
    finite = saliency.values[np.isfinite(saliency.values)]
    scale = float(np.abs(finite).max()) if finite.size else 0.0
    picture = Picture.fromarray(_indices(saliency.values, scale), mode="P")
    picture.putpalette(_palette())
    data = io.BytesIO()
    picture.save(data, format="PNG", transparency=_opacities(), compress_level=1)
    return Overlay(rows=rows, columns=columns, scale=scale, data=base64.b64encode(data.getvalue()).decode())


def _indices(values: npt.NDArray[np.float32], scale: float) -> npt.NDArray[np.uint8]:
    steps = np.rint(values * np.float32(_STEPS / scale)) if scale else np.zeros_like(values)
    return np.where(np.isfinite(values), steps + _ZERO, _UNSEEN).astype(np.uint8)


def _palette() -> bytes:
    colours = [_AGAINST if index < _ZERO else _FOR for index in range(256)]
    return bytes(channel for colour in colours for channel in colour)


def _opacities() -> bytes:
    opaque = [abs(index - _ZERO) * _MOST_OPAQUE // _STEPS for index in range(256)]
    opaque[_UNSEEN] = 0
    return bytes(opaque)
