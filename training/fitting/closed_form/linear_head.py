"""One modality: standardised features, their principal components, and a regularised logistic head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

Floats = npt.NDArray[np.float64]

_ITERATIONS, _TOLERANCE = 5000, 1e-8


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Features [N, K] → [N, D]: ``(x - mean) / scale @ components.T``.

    Attributes
    ----------
    mean, scale : float64 [K]
    components : float64 [D, K]
        Orthogonal rows of length K ** -0.5: whatever K, the projection of a training study has about unit length.
    """

    mean: Floats
    scale: Floats
    components: Floats

    @classmethod
    def fit(cls, features: npt.NDArray, width: int, *, one_scale: bool = False) -> Projection:
        """Standardise `features` [n, K] and keep the `width` first principal components, or as many as there are.

        A feature that is the same in every study carries nothing and is projected to 0. With `one_scale` all features
        are divided by the same number, so that one which varies more counts more.
        """
        values = np.asarray(features, np.float64)
        mean, sd = values.mean(axis=0), values.std(axis=0)
        # Constant features have rounding errors for a standard deviation.
        varies = sd > 1e-6 * np.maximum(np.abs(mean), 1e-6)
        if one_scale and varies.any():
            sd = np.full_like(sd, np.sqrt((sd[varies] ** 2).mean() * varies.mean()))
        scale = np.where(varies, sd, 1.0)
        standardised = np.where(varies, (values - mean) / scale, 0.0)
        kept = min(width, len(values) - 1, values.shape[1])
        components = PCA(kept, svd_solver="full").fit(standardised).components_ * varies
        return cls(mean, scale, components / np.sqrt(values.shape[1]))

    def __call__(self, features: npt.NDArray) -> Floats:
        return (np.asarray(features, np.float64) - self.mean) / self.scale @ self.components.T


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """Logits [N, F] of one modality: ``projection(x) @ weight.T + bias``.

    Attributes
    ----------
    weight : float64 [F, D]
    bias : float64 [F]
    prior : float64 [F]
        Log-odds of the prevalence among the studies that it was fitted on; of exclusive findings log-probabilities.
    """

    projection: Projection
    weight: Floats
    bias: Floats
    prior: Floats

    @classmethod
    def fit(
        cls, projection: Projection, projected: Floats, labels: Floats, strength: float, *, exclusive: bool
    ) -> Self:
        """Fit on `projected` [n, D], which `projection` made, and `labels` [n, F] (NaN unknown).

        Parameters
        ----------
        strength : float
            How strongly weights are held to 0 (L2), as a share of a study's log-likelihood.
        exclusive : bool
            Exactly one finding is present: one softmax instead of F logistic regressions.

        Notes
        -----
        A finding of which these studies show one class alone gets no weights: its logit is its prior.
        """
        return cls(projection, *(_softmax if exclusive else _logistic)(projected, labels, strength))

    def __call__(self, features: npt.NDArray) -> Floats:
        return self.projection(features) @ self.weight.T + self.bias


def prior_log_odds(labels: Floats, *, exclusive: bool) -> Floats:
    """Of the prevalence of each finding, [F]; half a study is added to each class (Jeffreys)."""
    present, absent = (labels == 1).sum(axis=0) + 0.5, (labels == 0).sum(axis=0) + 0.5
    return np.log(present / present.sum()) if exclusive else np.log(present) - np.log(absent)


def _logistic(projected: Floats, labels: Floats, strength: float) -> tuple[Floats, Floats, Floats]:
    prior = prior_log_odds(labels, exclusive=False)
    weight, bias = np.zeros((labels.shape[1], projected.shape[1])), prior.copy()
    for finding, column in enumerate(labels.T):
        known = ~np.isnan(column)
        if len(np.unique(column[known])) == 2:
            fitted = _regression(strength).fit(projected[known], column[known].astype(int))
            weight[finding], bias[finding] = fitted.coef_[0], fitted.intercept_[0]
    return weight, bias, prior


def _softmax(projected: Floats, labels: Floats, strength: float) -> tuple[Floats, Floats, Floats]:
    prior = prior_log_odds(labels, exclusive=True)
    weight, bias = np.zeros((labels.shape[1], projected.shape[1])), prior.copy()
    known = (labels == 1).sum(axis=1) == 1
    classes = labels[known].argmax(axis=1)
    seen = np.unique(classes)
    if len(seen) < 2:
        return weight, bias, prior
    fitted = _regression(strength).fit(projected[known], classes)
    coefficients, intercepts = fitted.coef_, fitted.intercept_
    if len(seen) == 2:  # scikit-learn gives the second class against the first
        coefficients, intercepts = np.vstack([-coefficients, coefficients]) / 2, np.repeat(intercepts, 2) * [-0.5, 0.5]
    weight[seen], bias[seen] = coefficients, intercepts
    # A class that no study shows stays as unlikely as its prior, measured from the classes that are there.
    unseen = np.setdiff1d(np.arange(labels.shape[1]), seen)
    bias[unseen] = prior[unseen] - prior[seen].mean() + intercepts.mean()
    return weight, bias, prior


def _regression(strength: float) -> LogisticRegression:
    return LogisticRegression(C=1 / strength, max_iter=_ITERATIONS, tol=_TOLERANCE)
