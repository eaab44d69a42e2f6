"""Stacking: how much each modality's logits count beside the others' (Wolpert 1992), with weights of 0 or more.

Weights below 0 make stacks of few studies worse (Breiman, Stacked regressions, Machine Learning 24, 1996). A modality
that alone, out of fold, predicts no better than the prevalence has weight 0: it costs the others nothing.

The fused logits are ``prior + sum over the modalities that are present of weight * (logits - their prior)``: what a
modality adds is its evidence, so that one which is absent adds nothing and every subset has an answer. That a modality
is there is no evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logsumexp

from training.fitting.closed_form.linear_head import prior_log_odds

Floats = npt.NDArray[np.float64]

_HELD = 1.0
"""How strongly a weight is held to 1 / M, in studies: the mean of the modalities is what little data ends in."""


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Weights of M modalities.

    Attributes
    ----------
    weights : dict of str to float64 [F]
        Not below 0; the same for all findings that exclude each other.
    prior : float64 [F]
    """

    weights: dict[str, Floats]
    prior: Floats

    @classmethod
    def fit(cls, evidence: Mapping[str, npt.NDArray], labels: npt.NDArray, *, exclusive: bool) -> Stack:
        """Fit on out-of-fold `evidence` [n, F] of each modality (logits less their prior; NaN where it is absent).

        Parameters
        ----------
        labels : float [n, F]
            NaN where unknown.
        """
        truth = np.asarray(labels, np.float64)
        prior = prior_log_odds(truth, exclusive=exclusive)
        stacked = np.nan_to_num(np.stack([np.asarray(one, np.float64) for one in evidence.values()]))
        tells = np.stack([_tells(np.asarray(one, np.float64), truth, exclusive=exclusive) for one in evidence.values()])
        if exclusive:
            known = (truth == 1).sum(axis=1) == 1
            found = _minimised(stacked[:, known], truth[known], prior, tells[:, 0])
            weights = np.repeat(found[:, None], truth.shape[1], axis=1)
        else:
            columns = [_of_finding(stacked[..., f], truth[:, f], prior[f], tells[:, f]) for f in range(truth.shape[1])]
            weights = np.stack(columns, axis=1)
        return cls(dict(zip(evidence, weights, strict=True)), prior)

    def __call__(self, evidence: Mapping[str, npt.NDArray]) -> Floats:
        """Fused logits [N, F]; a modality that is not named, or NaN, is absent."""
        return self.prior + sum(self.weights[name] * np.nan_to_num(one) for name, one in evidence.items())


def _tells(evidence: Floats, labels: Floats, *, exclusive: bool) -> npt.NDArray[np.bool_]:
    """Of which findings `evidence` [n, F] of one modality has a lower NLL than the prevalence where it is, [F]."""
    there = ~np.isnan(evidence).any(axis=1)
    own, truth = evidence[there], labels[there]
    prior = prior_log_odds(truth, exclusive=exclusive)
    if exclusive:
        known = (truth == 1).sum(axis=1) == 1
        gained = _log_softmax(prior + own[known]) - _log_softmax(np.broadcast_to(prior, own[known].shape))
        return np.full(labels.shape[1], (truth[known] * gained).sum() > 0)
    sign = 2 * truth - 1
    better: npt.NDArray[np.bool_] = np.nansum(log_expit(sign * (prior + own)) - log_expit(sign * prior), axis=0) > 0
    return better


def _log_softmax(logits: Floats) -> Floats:
    return logits - logsumexp(logits, axis=1, keepdims=True)


def _of_finding(evidence: Floats, labels: Floats, prior: float, tells: npt.NDArray[np.bool_]) -> Floats:
    """Weights [M] from `evidence` [M, n] of one finding."""
    known = ~np.isnan(labels)
    return _minimised(evidence[:, known, None], labels[known, None], np.array([prior]), tells)


def _minimised(evidence: Floats, labels: Floats, prior: Floats, tells: npt.NDArray[np.bool_]) -> Floats:
    """Weights [M] that minimise the NLL of `evidence` [M, n, F]; a softmax where F is not 1.

    They are held to the mean of those that tell something; where none does, all are taken.
    """
    taken = tells if tells.any() else np.ones_like(tells)
    evidence, weights = evidence[taken], np.zeros(len(taken))
    held = 1 / len(evidence)
    softmax = labels.shape[1] > 1

    def loss(weights: Floats) -> tuple[float, Floats]:
        logits = prior + np.tensordot(weights, evidence, axes=1)
        if softmax:
            log_p = _log_softmax(logits)
            surprise, slope = -(labels * log_p).sum(), np.exp(log_p) - labels
        else:
            surprise = -(labels * log_expit(logits) + (1 - labels) * log_expit(-logits)).sum()
            slope = expit(logits) - labels
        gradient = (evidence * slope).sum(axis=(1, 2)) + 2 * _HELD * (weights - held)
        return float(surprise + _HELD * ((weights - held) ** 2).sum()), gradient

    start = np.full(len(evidence), held)
    weights[taken] = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(start)).x
    return weights
