"""Ways of combining answers that learn nothing of how modalities bear on each other.

Experts who saw independent evidence multiply their odds: the posterior log-odds are the sum of each one's, less the
prior that all but one of them counted again (naive Bayes; a product of experts, Hinton 2002). Findings that exclude
each other multiply probabilities in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_softmax, logit, softmax

from training.evaluation.predictions import Predictions

Floats = npt.NDArray[np.float64]

_LEAST = 1e-9  # a probability of 0 or 1 would outvote all others


def sum_of_log_odds(unimodal: Mapping[str, Floats], subset: str, *, exclusive: bool) -> Floats:
    """Probabilities [N, F] where log-odds are simply added, the prior with each of them."""
    scores = sum(_scores(unimodal[modality], exclusive) for modality in _members(subset))
    return softmax(scores, axis=-1) if exclusive else expit(scores)


def product_of_experts(unimodal: Mapping[str, Floats], prior: Floats, subset: str, *, exclusive: bool) -> Floats:
    """Probabilities [N, F] of experts who share a prior and saw independent evidence.

    Parameters
    ----------
    unimodal : mapping of str to float [N, F]
        Calibrated probabilities from each modality alone; rows of NaN where a study lacks it.
    prior : float [F]
        Prior probability of each finding.
    subset : str
        `subset_key` of the modalities to combine.
    """
    members = _members(subset)
    scores = sum(_scores(unimodal[modality], exclusive) for modality in members)
    scores = scores - (len(members) - 1) * _scores(prior, exclusive)
    return softmax(scores, axis=-1) if exclusive else expit(scores)


def with_answers(predictions: Predictions, answers: Mapping[str, Floats], *, exclusive: bool) -> Predictions:
    """`predictions` whose fused logits are those of `answers`, probabilities by subset: to be calibrated once more."""
    logits = {key: _scores(answers[key], exclusive) for key in predictions.fused}
    return replace(predictions, fused=logits, unimodal={}, features={})


def mean_answer(answers: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    """Mean of several models' probabilities, by subset.

    Of calibrated probabilities it is too timid (Rahaman & Thiery 2021), so it wants to be calibrated once more.
    """
    return {key: np.mean([answer[key] for answer in answers], axis=0) for key in answers[0]}


def _members(subset: str) -> list[str]:
    return subset.split("+")


def _scores(probabilities: Floats, exclusive: bool) -> Floats:
    """Log-odds, or log-probabilities of findings that exclude each other, [..., F]."""
    bounded = np.clip(probabilities, _LEAST, 1 - _LEAST)
    return log_softmax(np.log(bounded), axis=-1) if exclusive else logit(bounded)
