"""Scaling: scale and bias per finding, offset per modality subset, fitted by penalised maximum likelihood.

A logit z of finding f, heard through the modality subset S, becomes the log-odds
``scale_f · z + bias_f + offset_{f,S}``; findings that exclude each other share one scale and one softmax. The fit is
convex. Shrinkage makes small splits safe:

- offsets shrink to 0 (prior sd 0.5): a subset that few studies have is calibrated like the others;
- the log-odds at the mean logit shrink to those of the prevalence (prior sd 5), the slope per standard deviation of the
  logits to 0 (prior sd 5): logits that separate a handful of studies perfectly do not become certainties.

The scale stays above 0: logits that rank worse than chance are flattened, never turned around.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

from consilium.errors import InputError, TrainingError
from consilium.findings import FindingSet

Floats = npt.NDArray[np.float64]

_MOST_LOGIT = 1e100  # keeps scale · logit finite, so that a softmax of it is
_OFFSET_SD, _SLOPE_SD, _BIAS_SD = 0.5, 5.0, 5.0
_LEAST_SLOPE = 1e-3


@dataclass(frozen=True, slots=True)
class Scaling:
    """Scale and bias per finding, and an offset per finding and modality subset.

    Attributes
    ----------
    scale : tuple of float, [F]
        Above 0; exclusive findings share one value.
    bias : tuple of float, [F]
    offsets : dict
        Per modality subset, [F].
    """

    scale: tuple[float, ...]
    bias: tuple[float, ...]
    offsets: dict[str, tuple[float, ...]]

    def __call__(self, logits: npt.ArrayLike, subset: str) -> Floats:
        """Scaled logits, [..., F]."""
        if subset not in self.offsets:
            raise InputError("modalities", subset, f"must be one of {', '.join(self.offsets)}")
        bounded = np.clip(np.asarray(logits, np.float64), -_MOST_LOGIT, _MOST_LOGIT)
        return np.asarray(self.scale) * bounded + np.asarray(self.bias) + np.asarray(self.offsets[subset])

    def to_json(self) -> dict[str, Any]:
        offsets = {subset: list(values) for subset, values in self.offsets.items()}
        return {"scale": list(self.scale), "bias": list(self.bias), "offsets": offsets}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Scaling:
        offsets = {subset: tuple(values) for subset, values in data["offsets"].items()}
        return cls(tuple(data["scale"]), tuple(data["bias"]), offsets)


def fit_scaling(findings: FindingSet, labels: Floats, logits: Mapping[str, Floats], prior: Floats) -> Scaling:
    """Fit to `labels` [N, F] (NaN unknown) the `logits` [N, F] per subset (rows of NaN: not heard).

    Every row of every subset counts one, so that a subset's offset is judged by as many studies as have that subset.

    Parameters
    ----------
    prior : float [F]
        Log-odds of the prevalence.

    Raises
    ------
    TrainingError
        Where a finding has no row with a known label, or a logit is infinite.
    """
    if findings.exclusive:
        known = labels.max(axis=1, initial=0, where=~np.isnan(labels)) == 1
        rows, group, truth = _gathered(logits, labels, known)
        _require_rows(findings.names[0], list(logits), rows)
        truth = np.argmax(np.where(np.isnan(truth), 0, truth), axis=1)
        scale, bias, offsets = _fit_softmax(rows, truth, group, len(logits), np.log(expit(prior)))
    else:
        parts = []
        for f, finding in enumerate(findings):
            column = {subset: values[:, [f]] for subset, values in logits.items()}
            rows, group, truth = _gathered(column, labels[:, [f]], ~np.isnan(labels[:, f]))
            _require_rows(finding.name, list(logits), rows)
            parts.append(_fit_sigmoid(rows[:, 0], truth[:, 0], group, len(logits), float(prior[f])))
        scale, bias, offsets = (np.stack(part, axis=-1) for part in zip(*parts, strict=True))
    if len(logits) == 1:
        # One subset alone: its offset would only share the bias's work.
        bias, offsets = bias + offsets[0], np.zeros_like(offsets)
    named = {subset: tuple(row) for subset, row in zip(logits, offsets.tolist(), strict=True)}
    return Scaling(tuple(scale.tolist()), tuple(bias.tolist()), named)


def _gathered(
    logits: Mapping[str, Floats], labels: Floats, known: npt.NDArray[np.bool_]
) -> tuple[Floats, npt.NDArray[np.intp], Floats]:
    """All rows with a label and a logit, below each other: logits, which subset, labels."""
    kept = [known & ~np.isnan(values).any(axis=1) for values in logits.values()]
    rows = np.concatenate([values[keep] for values, keep in zip(logits.values(), kept, strict=True)])
    group = np.repeat(np.arange(len(kept)), [int(keep.sum()) for keep in kept])
    return rows, group, np.concatenate([labels[keep] for keep in kept])


def _require_rows(finding: str, subsets: list[str], rows: Floats) -> None:
    if not len(rows):
        raise TrainingError(f"no calibration study with {' or '.join(subsets)} has a known label of {finding}")
    if not np.isfinite(rows).all():
        raise TrainingError(f"the model's logits of {finding} are not finite")


def _fit_sigmoid(
    rows: Floats, truth: Floats, group: npt.NDArray[np.intp], groups: int, prior: float
) -> tuple[Floats, Floats, Floats]:
    centre, spread = _location(rows)
    x = (rows - centre) / spread

    def loss(theta: Floats) -> tuple[float, Floats]:
        eta = theta[0] * x + prior + theta[1] + theta[2:][group]
        residual = expit(eta) - truth
        value = np.logaddexp(0, eta).sum() - truth @ eta
        by_group = np.bincount(group, residual, minlength=groups)
        return float(value), np.concatenate([[residual @ x, residual.sum()], by_group])

    theta = _minimise(loss, np.array([_SLOPE_SD, _BIAS_SD, *[_OFFSET_SD] * groups]), len(rows))
    scale = theta[0] / spread
    return np.asarray(scale), np.asarray(prior + theta[1] - scale * centre), theta[2:]


def _fit_softmax(
    rows: Floats, truth: npt.NDArray[np.intp], group: npt.NDArray[np.intp], groups: int, prior: Floats
) -> tuple[Floats, Floats, Floats]:
    classes = rows.shape[1]
    rows = rows - rows.mean(axis=1, keepdims=True)  # a softmax does not see it, the standard deviation would
    centre = rows.mean(axis=0)
    spread = _location(rows - centre)[1]
    x = (rows - centre) / spread
    one_hot = np.eye(classes)[truth]
    member = np.eye(groups)[group]

    def loss(theta: Floats) -> tuple[float, Floats]:
        offsets = theta[1 + classes :].reshape(groups, classes)
        log_p = log_softmax(theta[0] * x + prior + theta[1 : 1 + classes] + offsets[group], axis=1)
        residual = np.exp(log_p) - one_hot
        gradient = [[(residual * x).sum()], residual.sum(axis=0), (member.T @ residual).ravel()]
        return float(-log_p[np.arange(len(truth)), truth].sum()), np.concatenate(gradient)

    spreads = np.array([_SLOPE_SD, *[_BIAS_SD] * classes, *[_OFFSET_SD] * groups * classes])
    theta = _minimise(loss, spreads, len(rows))
    scale = theta[0] / spread
    bias = prior + theta[1 : 1 + classes] - scale * centre
    return np.full(classes, scale), bias, theta[1 + classes :].reshape(groups, classes)


def _location(values: Floats) -> tuple[float, float]:
    """Mean and standard deviation, in which the slope is measured; 1 for logits that do not vary."""
    spread = float(values.std())
    return float(values.mean()), spread if spread > 0 else 1.0


def _minimise(loss: Callable[[Floats], tuple[float, Floats]], prior_sd: Floats, rows: int) -> Floats:
    """Minimum of `loss` plus the penalty of a Gaussian prior with `prior_sd`; the first parameter stays above 0."""
    precision = prior_sd**-2.0

    def penalised(theta: Floats) -> tuple[float, Floats]:
        value, gradient = loss(theta)
        return (value + 0.5 * float(precision @ theta**2)) / rows, (gradient + precision * theta) / rows

    start = np.zeros(len(prior_sd))
    start[0] = 1.0
    bounds = [(_LEAST_SLOPE, None)] + [(None, None)] * (len(start) - 1)
    options = {"maxiter": 2000, "maxfun": 20000, "ftol": 1e-14, "gtol": 1e-9}
    result = minimize(penalised, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    gradient = penalised(result.x)[1]
    if result.x[0] <= _LEAST_SLOPE:
        gradient[0] = min(gradient[0], 0.0)
    if not np.isfinite(result.x).all() or np.abs(gradient).max() > 1e-5:
        raise TrainingError(f"the calibration did not converge on {rows} predictions: {result.message}")
    return result.x
