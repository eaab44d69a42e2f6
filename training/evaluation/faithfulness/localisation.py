"""Places: whether a map lies where the evidence does, and decisive words and values are found."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

Map = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

CENTRE_SD = 1 / 4
"""Standard deviation of the centre prior, as a share of the image's side."""


def mass_in_mask(saliency: Map, mask: Mask) -> float:
    """Share of the map's positive mass that lies in `mask`; 0 where the map is nowhere positive."""
    positive = np.clip(np.nan_to_num(saliency), 0, None)
    total = float(positive.sum())
    return float(positive[mask].sum()) / total if total > 0 else 0.0


def pointing(saliency: Map, mask: Mask) -> float:
    """The pointing game (Zhang et al. 2018): share of the map's highest pixels that lie in `mask`, usually 0 or 1."""
    values = np.nan_to_num(saliency, nan=-np.inf)
    return float(mask[values == values.max()].mean())


def centre_prior(shape: tuple[int, int]) -> Map:
    """A map that knows only that findings lie near the middle: a Gaussian around it."""
    squares = [np.square((np.arange(side) - (side - 1) / 2) / (CENTRE_SD * side)) for side in shape]
    return np.exp(-(squares[0][:, None] + squares[1][None]) / 2).astype(np.float32)


def average_precision(weights: npt.NDArray, decisive: Mask, labelled: Mask) -> float:
    """How well the size of `weights` tells decisive words or values from the others that are `labelled`.

    Area under the precision–recall curve; NaN where there are none, or no others.
    """
    if not decisive[labelled].any() or decisive[labelled].all():
        return float("nan")
    return float(average_precision_score(decisive[labelled], np.abs(weights[labelled])))
