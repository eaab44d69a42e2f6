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

from consilium.calibration import Calibration
from consilium.study import Modality
from training.predictions import Predictions

Floats = npt.NDArray[np.float64]

_LEAST = 1e-9  # a probability of 0 or 1 would outvote all others


def product_of_experts(opinions: Mapping[Modality, Floats], prior: Floats, subset: str, *, exclusive: bool) -> Floats:
    """Probabilities [N, F] of experts who share a prior and saw independent evidence.

    Parameters
    ----------
    opinions : mapping of Modality to float [N, F]
        Calibrated probabilities from each modality alone; rows of NaN where a study lacks it.
    prior : float [F]
        Probability of each finding before anything is heard.
    subset : str
        `subset_key` of the modalities to combine.
    """
    heard = [Modality(name) for name in subset.split("+")]
    scores = sum(_scores(opinions[modality], exclusive) for modality in heard)
    scores = scores - (len(heard) - 1) * _scores(prior, exclusive)
    return softmax(scores, axis=-1) if exclusive else expit(scores)


def summed_scores(predictions: Predictions, calibration: Calibration) -> Predictions:
    """`predictions` whose fused logits are plain sums of the modalities' own calibrated log-odds.

    To be calibrated like a model's logits: the scale that it gets there makes it the best answer that a sum can give.
    """
    exclusive = calibration.findings.exclusive
    said = {m: _scores(calibration.opinion(v, m), exclusive) for m, v in predictions.opinions.items()}
    sums = {key: np.sum([said[Modality(name)] for name in key.split("+")], axis=0) for key in predictions.fused}
    return replace(predictions, fused=sums, opinions={}, features={})


def mean_answer(predictions: Predictions, answers: Sequence[Mapping[str, Floats]], *, exclusive: bool) -> Predictions:
    """`predictions` whose fused logits are those of the mean of several models' probabilities.

    To be calibrated like one model's logits: the mean of calibrated probabilities is too timid (Rahaman & Thiery 2021).

    Parameters
    ----------
    answers : sequence of mapping of subset_key to float [N, F]
        Each model's calibrated probabilities for the studies of `predictions`.
    """
    means = {key: np.mean([answer[key] for answer in answers], axis=0) for key in predictions.fused}
    logits = {key: _scores(mean, exclusive) for key, mean in means.items()}
    return replace(predictions, fused=logits, opinions={}, features={})


def _scores(probabilities: Floats, exclusive: bool) -> Floats:
    """Log-odds, or log-probabilities of findings that exclude each other, [..., F]."""
    bounded = np.clip(probabilities, _LEAST, 1 - _LEAST)
    return log_softmax(np.log(bounded), axis=-1) if exclusive else logit(bounded)
