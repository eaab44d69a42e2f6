"""Deletion and insertion: what happens to the answer when the study loses, or consists of, what was weighed highest.

After Petsiuk et al. 2018 (section 3.3). The curves are of calibrated log-odds, over the shares in `SHARES`; both
figures are in log-odds and larger is better:

- deletion: how far the answer falls, on average over the shares, when the highest are taken out;
- insertion: how far it rises when they are all there is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from consilium.explain.case import Case
from consilium.explain.methods import ModalityExplanation

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Of pixels, words or values."""


def deletion_and_insertion(
    case: Case, explanation: ModalityExplanation, weights: npt.NDArray, position: int
) -> tuple[float, float]:
    """Both figures of one finding.

    Parameters
    ----------
    weights : [V, h, w] over the study's images, [W] of words or [K] of values
    """
    weights = explanation.places(case, weights)
    order = np.argsort(-weights.ravel(), kind="stable")
    counts = [max(1, round(share * order.size)) for share in SHARES]
    highest = np.zeros((len(counts), order.size), bool)
    for row, count in enumerate(counts):
        highest[row, order[:count]] = True
    everything = np.ones((1, order.size), bool)
    kept = np.concatenate([everything, ~everything, ~highest, highest])
    answer = explanation.log_odds_keeping(case, kept)[:, position]
    whole, nothing, without, only = answer[0], answer[1], answer[2 : 2 + len(counts)], answer[2 + len(counts) :]
    return float((whole - without).mean()), float((only - nothing).mean())
