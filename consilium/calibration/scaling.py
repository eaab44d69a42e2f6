"""Scaling: a slope and a bias per finding and modality subset, fitted by penalised maximum likelihood.

A logit z of finding f, heard through the modality subset S, becomes the log-odds ``scale_{f,S} · z + bias_{f,S}``
(Platt 1999, per subset). Findings that exclude each other share one slope within a softmax (temperature and bias), or
have one each: vector scaling (Guo et al., ICML 2017). Independent findings have one each in either case, so that for
them the two are the same. The fit is convex. Shrinkage makes small splits safe:

- a subset's slope, per standard deviation of the logits, and bias shrink to those of all subsets together (prior sd
  `subset_sd`): a subset that few studies have is calibrated like the others;
- the log-odds at the mean logit shrink to those of the prevalence (prior sd 5), the common slope per standard deviation
  to 0 (prior sd 5): logits that separate a handful of studies perfectly do not become certainties.

Slopes stay above 0: logits that rank worse than chance are flattened, never turned around.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_softmax

from consilium.domain.errors import InputError, TrainingError
from consilium.domain.findings import FindingSet

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

SUBSET_SD = 0.3
"""How far a subset is thought to be from the others where nothing tells."""

_MOST_LOGIT = 1e100  # keeps scale · logit finite, so that a softmax of it is
_COMMON_SD = 5.0
_LEAST_SLOPE = 1e-3


@dataclass(frozen=True, slots=True)
class Scaling:
    """Slope and bias per modality subset and finding.

    Attributes
    ----------
    scale : dict of str to tuple of float, [F]
        Above 0.
    bias : dict of str to tuple of float, [F]
        Of the same subsets.
    """

    scale: dict[str, tuple[float, ...]]
    bias: dict[str, tuple[float, ...]]

    def __call__(self, logits: npt.ArrayLike, subset: str) -> Floats:
        """Scaled logits, [..., F]."""
        if subset not in self.scale:
            raise InputError("modalities", subset, f"must be one of {', '.join(self.scale)}")
        bounded = np.clip(np.asarray(logits, np.float64), -_MOST_LOGIT, _MOST_LOGIT)
        return np.asarray(self.scale[subset]) * bounded + np.asarray(self.bias[subset])

    def to_json(self) -> dict[str, Any]:
        parts = {"scale": self.scale, "bias": self.bias}
        return {name: {subset: list(row) for subset, row in part.items()} for name, part in parts.items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Scaling:
        scale, bias = ({s: tuple(row) for s, row in data[name].items()} for name in ("scale", "bias"))
        return cls(scale, bias)

    def require_sound(self, name: str, findings: int) -> None:
        """`InputError` unless all is finite, of `findings` findings and rising; `name` is how the error calls it."""
        if not self.scale or self.scale.keys() != self.bias.keys():
            raise InputError(f"{name}.bias", ", ".join(self.bias), "must be of the same subsets as scale, at least one")
        rows = [*self.scale.values(), *self.bias.values()]
        sizes = {len(row) for row in rows}
        if sizes != {findings} or not np.isfinite(rows).all() or min(map(min, self.scale.values())) <= 0:
            raise InputError(name, sorted(sizes), "must be finite, per finding, with scales above 0")


def fit_scaling(
    findings: FindingSet,
    labels: Floats,
    logits: Mapping[str, Floats],
    prior: Floats,
    *,
    per_class: bool = False,
    subset_sd: float = SUBSET_SD,
) -> Scaling:
    """Fit to `labels` [N, F] (NaN unknown) the `logits` [N, F] per subset (rows of NaN: not heard).

    Every row of every subset counts one, so that a subset's slope is judged by as many studies as have that subset.

    Parameters
    ----------
    prior : float [F]
        Log-odds of the prevalence.
    per_class : bool
        Findings that exclude each other have a slope each.
    subset_sd : float
        How far slopes and biases of a subset are thought to be from those of the others.

    Raises
    ------
    TrainingError
        Where a finding has no row with a known label, or a logit is infinite.
    """
    if findings.exclusive:
        known = labels.max(axis=1, initial=0, where=~np.isnan(labels)) == 1
        rows, group, truth = gathered(logits, labels, known)
        _require_rows(findings.names[0], list(logits), rows)
        one_hot = np.where(np.isnan(truth), 0, truth)
        subsets = _Subsets(group, len(logits), subset_sd)
        scale, bias = _fit_softmax(rows, one_hot, subsets, np.log(expit(prior)), per_class=per_class)
    else:
        columns = []
        for f, finding in enumerate(findings):
            column = {subset: values[:, [f]] for subset, values in logits.items()}
            rows, group, truth = gathered(column, labels[:, [f]], ~np.isnan(labels[:, f]))
            _require_rows(finding.name, list(logits), rows)
            subsets = _Subsets(group, len(logits), subset_sd)
            columns.append(_fit_sigmoid(rows[:, 0], truth[:, 0], subsets, float(prior[f])))
        scale, bias = (np.stack(column, axis=-1) for column in zip(*columns, strict=True))
    named = [{subset: tuple(row) for subset, row in zip(logits, part.tolist(), strict=True)} for part in (scale, bias)]
    return Scaling(*named)


def gathered(
    logits: Mapping[str, Floats], labels: Floats, known: npt.NDArray[np.bool_]
) -> tuple[Floats, Indices, Floats]:
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


@dataclass(frozen=True, slots=True, eq=False)
class _Subsets:
    """Which of `groups` subsets each row was heard through, int [N], and the prior sd between them."""

    group: Indices
    groups: int
    sd: float


def _fit_sigmoid(rows: Floats, truth: Floats, subsets: _Subsets, prior: float) -> tuple[Floats, Floats]:
    """Slope and bias per subset, [G] each."""
    group, groups = subsets.group, subsets.groups
    centre, spread = float(rows.mean()), _spread(rows)
    x = (rows - centre) / spread

    def loss(theta: Floats) -> tuple[float, Floats]:
        slopes, offsets = theta[2 : 2 + groups], theta[2 + groups :]
        eta = slopes[group] * x + prior + theta[1] + offsets[group]
        residual = expit(eta) - truth
        value = np.logaddexp(0, eta).sum() - truth @ eta
        by_slope, by_group = (np.bincount(group, part, minlength=groups) for part in (residual * x, residual))
        return float(value), np.concatenate([[0.0, residual.sum()], by_slope, by_group])

    theta = _minimise(loss, subsets, slopes=1, biases=1)
    scale = theta[2 : 2 + groups] / spread
    return scale, prior + theta[1] + theta[2 + groups :] - scale * centre


def _fit_softmax(
    rows: Floats, one_hot: Floats, subsets: _Subsets, prior: Floats, *, per_class: bool
) -> tuple[Floats, Floats]:
    """Slope and bias per subset and class, [G, K] each; the classes' slopes are one unless `per_class`."""
    group, groups, classes = subsets.group, subsets.groups, rows.shape[1]
    if not per_class:
        rows = rows - rows.mean(axis=1, keepdims=True)  # a softmax does not see it, the standard deviation would
    centre = rows.mean(axis=0)
    spread = _spread(rows - centre)
    x = (rows - centre) / spread
    member = np.eye(groups)[group]
    slopes = classes if per_class else 1
    ends = np.cumsum([slopes, classes, groups * slopes])

    def loss(theta: Floats) -> tuple[float, Floats]:
        _, bias, scale, offsets = np.split(theta, ends)
        scaled = scale.reshape(groups, slopes)[group] * x
        log_p = log_softmax(scaled + prior + bias + offsets.reshape(groups, classes)[group], axis=1)
        residual = np.exp(log_p) - one_hot
        by_slope = member.T @ (residual * x)
        if not per_class:
            by_slope = by_slope.sum(axis=1)
        gradient = [np.zeros(slopes), residual.sum(axis=0), by_slope.ravel(), (member.T @ residual).ravel()]
        return float(-(log_p * one_hot).sum()), np.concatenate(gradient)

    theta = _minimise(loss, subsets, slopes=slopes, biases=classes)
    _, bias, scale, offsets = np.split(theta, ends)
    scales = np.broadcast_to(scale.reshape(groups, slopes) / spread, (groups, classes))
    return scales, prior + bias + offsets.reshape(groups, classes) - scales * centre


def _spread(values: Floats) -> float:
    """Standard deviation, in which slopes are measured; 1 for logits that do not vary."""
    spread = float(values.std())
    return spread if spread > 0 else 1.0


def _minimise(loss: Callable[[Floats], tuple[float, Floats]], subsets: _Subsets, *, slopes: int, biases: int) -> Floats:
    """Minimum of `loss` plus the penalty of the Gaussian priors; every slope stays above 0.

    The parameters are the common slopes and biases, then every subset's slopes, then its offsets from the biases.
    """
    from scipy.optimize import minimize  # fits alone need it, and a model that is loaded pays nothing for it

    groups, rows, common = subsets.groups, len(subsets.group), slopes + biases
    size = common + groups * common
    # The penalty is half the squared length of `prior @ theta`.
    prior = np.diag(1 / np.array([_COMMON_SD] * common + [subsets.sd] * groups * common))
    subset_slopes = common + np.arange(groups * slopes)
    prior[subset_slopes, np.tile(np.arange(slopes), groups)] = -1 / subsets.sd
    is_slope = np.zeros(size, bool)
    is_slope[:slopes] = is_slope[subset_slopes] = True

    def penalised(theta: Floats) -> tuple[float, Floats]:
        value, gradient = loss(theta)
        pull = prior @ theta
        return (value + 0.5 * float(pull @ pull)) / rows, (gradient + prior.T @ pull) / rows

    bounds = [(_LEAST_SLOPE, None) if slope else (None, None) for slope in is_slope]
    options = {"maxiter": 2000, "maxfun": 20000, "ftol": 1e-12, "gtol": 1e-8}
    result = minimize(penalised, is_slope.astype(float), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    gradient = penalised(result.x)[1]
    held = is_slope & (result.x <= _LEAST_SLOPE)
    gradient[held] = np.minimum(gradient[held], 0.0)
    if not np.isfinite(result.x).all() or np.abs(gradient).max() > 1e-5:
        raise TrainingError(f"the calibration did not converge on {rows} predictions: {result.message}")
    return result.x
