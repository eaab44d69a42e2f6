"""Saliency as a picture to lay over an image, for every page and answer: one palette, one codec."""

from __future__ import annotations

import base64
import io
from typing import Literal

import numpy as np
import numpy.typing as npt

from consilium.domain.wire import Wire
from consilium.modalities.colours import AGAINST, FOR

STRONGEST_ALPHA = 200
"""Opacity, of 255, of the strongest evidence."""

_UNSEEN, _ZERO, _STEPS = 0, 128, 127

Map = npt.NDArray[np.float32]


class Overlay(Wire):
    """A saliency map as a picture to lay over the image that was sent.

    A palette PNG with transparency, in the pixel grid of the file that was sent, as viewers turn it, also where its
    pixels are not square: blue is evidence against the finding, orange for it.
    The palette index carries the value: index 0 is where the model did not look, otherwise value = (index - 128) / 127
    × `scale`.
    """

    media_type: Literal["image/png"] = "image/png"
    rows: int
    columns: int
    scale: float
    """Largest absolute log-odds per feature-map cell."""
    data: str
    """Base64."""


def overlay_rgba(values: Map, strongest: float) -> npt.NDArray[np.uint8]:
    """Signed saliency [...] as colour [..., 4]: transparent at zero and NaN, most opaque at ± `strongest`."""
    known = np.nan_to_num(values)
    strength = np.clip(np.abs(known) / strongest, 0, 1) if strongest > 0 else np.zeros_like(known)
    rgba = np.zeros((*values.shape, 4), np.uint8)
    rgba[..., :3] = np.where((known > 0)[..., None], np.array(FOR, np.uint8), np.array(AGAINST, np.uint8))
    rgba[..., 3] = np.rint(strength * STRONGEST_ALPHA)
    return rgba


def encode_overlay(values: Map) -> Overlay:
    """The picture of saliency `values` [H, W], NaN where the model did not look."""
    from PIL import Image as Picture

    finite = values[np.isfinite(values)]
    scale = float(np.abs(finite).max()) if finite.size else 0.0
    colours = overlay_rgba(np.arange(-_ZERO, 256 - _ZERO, dtype=np.float32), _STEPS)
    colours[_UNSEEN] = 0
    picture = Picture.fromarray(_indices(values, scale), mode="P")
    picture.putpalette(colours[:, :3].tobytes())
    data = io.BytesIO()
    picture.save(data, format="PNG", transparency=colours[:, 3].tobytes(), compress_level=1)
    rows, columns = values.shape
    return Overlay(rows=rows, columns=columns, scale=scale, data=base64.b64encode(data.getvalue()).decode())


def decode_overlay(overlay: Overlay) -> Map:
    """The saliency of the picture, in the 255 steps of its palette."""
    from PIL import Image as Picture

    with Picture.open(io.BytesIO(base64.b64decode(overlay.data)), formats=["PNG"]) as picture:
        indices = np.asarray(picture)
    values = (indices.astype(np.float32) - _ZERO) / _STEPS * np.float32(overlay.scale)
    return np.where(indices == _UNSEEN, np.float32(np.nan), values)


def _indices(values: Map, scale: float) -> npt.NDArray[np.uint8]:
    steps = np.rint(values * np.float32(_STEPS / scale)) if scale else np.zeros_like(values)
    return np.where(np.isfinite(values), steps + _ZERO, _UNSEEN).astype(np.uint8)
