"""Deletion and insertion: what happens to the answer when the study loses, or consists of, what was weighed highest.

After Petsiuk et al. 2018 (section 3.3). The curves are of calibrated log-odds, over the shares in `SHARES`; both
figures are in log-odds and larger is better:

- deletion: how far the answer falls, on average over the shares, when the highest are taken out;
- insertion: how far it rises when they are all there is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from consilium.explain.case import Case, Floats
from consilium.explain.methods import IMAGE, WORDS
from consilium.modalities.image.explanation import reference_images

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Of pixels, words or values."""

Kept = npt.NDArray[np.bool_]


def deletion_and_insertion(case: Case, part: str, weights: npt.NDArray, position: int) -> tuple[float, float]:
    """Both figures of one finding.

    Parameters
    ----------
    weights : [V, S, S] over the squares of the study's images, [W] of words or [K] of values
    """
    order = np.argsort(-weights.ravel(), kind="stable")
    counts = [max(1, round(share * order.size)) for share in SHARES]
    highest = np.zeros((len(counts), order.size), bool)
    for row, count in enumerate(counts):
        highest[row, order[:count]] = True
    everything = np.ones((1, order.size), bool)
    kept = np.concatenate([everything, ~everything, ~highest, highest])
    answer = _ASK.get(part, _with_values)(case, kept)[:, position]
    whole, nothing, without, only = answer[0], answer[1], answer[2 : 2 + len(counts)], answer[2 + len(counts) :]
    return float((whole - without).mean()), float((only - nothing).mean())


def _with_images(case: Case, kept: Kept) -> Floats:
    """Log-odds [N, F] of copies whose pixels, where not `kept`, are those of the reference."""
    own = case.batch.images
    mask = torch.from_numpy(kept).to(own.device).reshape(len(kept), *own.shape[1:])
    return case.log_odds_with_images(torch.where(mask, own, reference_images(case)))


def _with_words(case: Case, kept: Kept) -> Floats:
    mask = case.batch.text_mask.repeat(len(kept), 1)
    for row, said in enumerate(kept):
        for (_, pieces), there in zip(case.words, said, strict=True):
            if not there:
                mask[row, torch.from_numpy(pieces)] = False
    return case.log_odds_with_words(mask)


def _with_values(case: Case, kept: Kept) -> Floats:
    mask = np.zeros((len(kept), len(case.prepared.observations)), bool)
    mask[:, list(case.known)] = kept
    return case.log_odds_with_values(torch.from_numpy(mask).to(case.batch.observation_mask.device))


_ASK: dict[str, Callable[[Case, Kept], Floats]] = {IMAGE: _with_images, WORDS: _with_words}
