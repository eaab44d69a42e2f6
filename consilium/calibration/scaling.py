"""Scaling: a slope and a bias per finding and modality subset, fitted by penalised maximum likelihood.

A logit z of finding f, given the modality subset S, becomes the log-odds ``scale_{f,S} · z + bias_{f,S}`` (Platt 1999,
per subset). Findings that exclude each other share one slope within a softmax (temperature and bias), or have one each:
vector scaling (Guo et al., ICML 2017). Independent findings have one each in either case, so that for them the two are
the same. The fit is convex. Slopes, per standard deviation of the logits, and offsets, which are log-odds at the mean
logit less those of the prevalence, shrink in three steps, which makes small splits safe:

- a subset's to what is additive over its modalities (prior sd `Shrinkage.subset_sd`): a subset that few studies have is
  calibrated by what its modalities do in others, and one that no study had gets just that;
- what a modality adds to 0 (prior sd `Shrinkage.modality_sd`);
- what all subsets share to 0 (prior sd 5): logits that separate a handful of studies perfectly do not become
  certainties.

Slopes never fall below 0: logits that rank worse than chance are flattened, never turned around.
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
from consilium.modalities.registry import subset_key

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

_MOST_LOGIT = 1e100  # keeps scale · logit finite, so that a softmax of it is
_COMMON_SD = 5.0
_LEAST_SLOPE = 1e-3
_BASE = subset_key([])


@dataclass(frozen=True, slots=True)
class Shrinkage:
    """How far the subsets' slopes and offsets are expected to be from each other, where no data says.

    Attributes
    ----------
    modality_sd : float
        Standard deviation of what a modality adds; 0: all subsets shrink to the same.
    subset_sd : float
        Standard deviation of a subset around what is additive; below .02 the fit may not converge.
    """

    modality_sd: float = 0.3
    subset_sd: float = 0.1


DEFAULT_SHRINKAGE = Shrinkage()


@dataclass(frozen=True, slots=True)
class Additive:
    """Slope and offset of any subset: what all share, and what each of its modalities adds.

    Attributes
    ----------
    scale, offset : dict of str to tuple of float, [F]
        Of each modality, and under ``none`` what all subsets share; the offset is the log-odds at `centre`.
    centre : tuple of float, [F]
    """

    scale: dict[str, tuple[float, ...]]
    offset: dict[str, tuple[float, ...]]
    centre: tuple[float, ...]

    def of(self, subset: str) -> tuple[Floats, Floats]:
        """Scale and bias of `subset`, [F] each.

        Raises
        ------
        InputError
            Where it has a modality that the calibration does not know.
        """
        terms = [_BASE, *subset.split("+")]
        if not self.scale.keys() >= set(terms):
            known = ", ".join(name for name in self.scale if name != _BASE)
            raise InputError("modalities", subset, f"must be of {known}")
        scale, offset = (np.sum([part[term] for term in terms], axis=0) for part in (self.scale, self.offset))
        scale = np.maximum(scale, 0.0)
        return scale, offset - scale * np.asarray(self.centre)

    def to_json(self) -> dict[str, Any]:
        return {"scale": _lists(self.scale), "offset": _lists(self.offset), "centre": list(self.centre)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Additive:
        return cls(_tuples(data["scale"]), _tuples(data["offset"]), tuple(data["centre"]))


@dataclass(frozen=True, slots=True)
class Scaling:
    """Slope and bias per modality subset and finding.

    Attributes
    ----------
    scale : dict of str to tuple of float, [F]
        Above 0.
    bias : dict of str to tuple of float, [F]
        Of the same subsets.
    additive : Additive
        For every other subset.
    """

    scale: dict[str, tuple[float, ...]]
    bias: dict[str, tuple[float, ...]]
    additive: Additive

    def __call__(self, logits: npt.ArrayLike, subset: str) -> Floats:
        """Scaled logits, [..., F]; `InputError` where `subset` has a modality that the calibration does not know."""
        bounded = np.clip(np.asarray(logits, np.float64), -_MOST_LOGIT, _MOST_LOGIT)
        if subset not in self.scale:
            scale, bias = self.additive.of(subset)
            return scale * bounded + bias
        return np.asarray(self.scale[subset]) * bounded + np.asarray(self.bias[subset])

    def to_json(self) -> dict[str, Any]:
        return {"scale": _lists(self.scale), "bias": _lists(self.bias), "additive": self.additive.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Scaling:
        return cls(_tuples(data["scale"]), _tuples(data["bias"]), Additive.from_json(data["additive"]))

    def require_sound(self, name: str, findings: int) -> None:
        """`InputError` unless all is finite, of `findings` findings and rising; `name` is how the error calls it."""
        if not self.scale or self.scale.keys() != self.bias.keys():
            raise InputError(f"{name}.bias", ", ".join(self.bias), "must be of the same subsets as scale, at least one")
        terms = {_BASE, *(modality for subset in self.scale for modality in subset.split("+"))}
        if not self.additive.scale.keys() == self.additive.offset.keys() == terms:
            rule = f"must be of {', '.join(sorted(terms))}"
            raise InputError(f"{name}.additive", ", ".join(sorted(self.additive.scale)), rule)
        added = [*self.additive.scale.values(), *self.additive.offset.values(), self.additive.centre]
        rows = [*self.scale.values(), *self.bias.values(), *added]
        sizes = {len(row) for row in rows}
        if sizes != {findings} or not np.isfinite(rows).all() or min(map(min, self.scale.values())) <= 0:
            raise InputError(name, sorted(sizes), "must be finite, per finding, with scales above 0")


def _lists(rows: Mapping[str, tuple[float, ...]]) -> dict[str, list[float]]:
    return {name: list(row) for name, row in rows.items()}


def _tuples(rows: Mapping[str, list[float]]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(row) for name, row in rows.items()}


def fit_scaling(
    findings: FindingSet,
    labels: Floats,
    logits: Mapping[str, Floats],
    prior: Floats,
    *,
    per_class: bool = False,
    shrinkage: Shrinkage = DEFAULT_SHRINKAGE,
) -> Scaling:
    """Fit to `labels` [N, F] (NaN unknown) the `logits` [N, F] per subset (rows of NaN: the study lacks a modality).

    Every row of every subset counts one, so that a subset's slope rests on as many studies as have that subset.

    Parameters
    ----------
    prior : float [F]
        Log-odds of the prevalence.
    per_class : bool
        Findings that exclude each other have a slope each.

    Raises
    ------
    TrainingError
        Where a finding has no row with a known label, or a logit is infinite.
    """
    shared = _Prior.over(list(logits), shrinkage)
    if findings.exclusive:
        known = labels.max(axis=1, initial=0, where=~np.isnan(labels)) == 1
        rows, group, truth = gathered(logits, labels, known)
        _require_rows(findings.names[0], list(logits), rows)
        one_hot = np.where(np.isnan(truth), 0, truth)
        fitted = _fit_softmax(rows, one_hot, group, shared, np.log(expit(prior)), per_class=per_class)
    else:
        columns = []
        for f, finding in enumerate(findings):
            column = {subset: values[:, [f]] for subset, values in logits.items()}
            rows, group, truth = gathered(column, labels[:, [f]], ~np.isnan(labels[:, f]))
            _require_rows(finding.name, list(logits), rows)
            columns.append(_fit_sigmoid(rows[:, 0], truth[:, 0], group, shared, float(prior[f])))
        fitted = _Fitted.side_by_side(columns)
    return fitted.scaling(shared)


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
class _Prior:
    """Gaussian prior of one coefficient of all G subsets: a common part, one of each of M modalities, one of its own.

    Attributes
    ----------
    design : float [G, 1 + M]
        1, then which modalities each subset has, less their mean over the subsets.
    precision : float [G, G]
        Inverse of the covariance.
    to_additive : float [1 + M, G]
        From the subsets' coefficients to the common part and what each modality adds.
    """

    subsets: tuple[str, ...]
    modalities: tuple[str, ...]
    design: Floats
    precision: Floats
    to_additive: Floats

    @classmethod
    def over(cls, subsets: list[str], shrinkage: Shrinkage) -> _Prior:
        members = [subset.split("+") for subset in subsets]
        modalities = tuple(dict.fromkeys(name for names in members for name in names))
        has = np.array([[name in names for name in modalities] for names in members], np.float64)
        design = np.column_stack([np.ones(len(subsets)), has - has.mean(axis=0)])
        weighted = (np.array([_COMMON_SD] + [shrinkage.modality_sd] * len(modalities)) ** 2)[:, None] * design.T
        precision = np.linalg.inv(design @ weighted + shrinkage.subset_sd**2 * np.eye(len(subsets)))
        to_additive = weighted @ precision
        to_additive[0] -= has.mean(axis=0) @ to_additive[1:]  # what is left where no modality is there
        return cls(tuple(subsets), modalities, design, precision, to_additive)


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    """Slopes and offsets of every subset, [G, F] each, in the logits' own unit; the offset is that at `centre`, [F]."""

    scale: Floats
    offset: Floats
    centre: Floats

    @classmethod
    def side_by_side(cls, columns: list[_Fitted]) -> _Fitted:
        """From the fits of single findings."""
        scale, offset, centre = ([getattr(one, name) for one in columns] for name in cls.__slots__)
        return cls(np.concatenate(scale, axis=1), np.concatenate(offset, axis=1), np.concatenate(centre))

    def scaling(self, shared: _Prior) -> Scaling:
        terms = (_BASE, *shared.modalities)
        scale, offset = (_named(terms, shared.to_additive @ part) for part in (self.scale, self.offset))
        bias = _named(shared.subsets, self.offset - self.scale * self.centre)
        additive = Additive(scale, offset, tuple(self.centre.tolist()))
        return Scaling(_named(shared.subsets, self.scale), bias, additive)


def _named(names: tuple[str, ...], rows: Floats) -> dict[str, tuple[float, ...]]:
    return {name: tuple(row) for name, row in zip(names, rows.tolist(), strict=True)}


def _fit_sigmoid(rows: Floats, truth: Floats, group: Indices, shared: _Prior, prior: float) -> _Fitted:
    """Of one finding; `group` says which subset each of `rows` is of."""
    groups = len(shared.subsets)
    centre, spread = float(rows.mean()), _spread(rows)
    x = (rows - centre) / spread

    def loss(coefficients: Floats) -> tuple[float, Floats]:
        slopes, offsets = coefficients.T
        eta = slopes[group] * x + prior + offsets[group]
        residual = expit(eta) - truth
        value = np.logaddexp(0, eta).sum() - truth @ eta
        gradient = [np.bincount(group, part, minlength=groups) for part in (residual * x, residual)]
        return float(value), np.stack(gradient, axis=1)

    slopes, offsets = _minimise(loss, shared, len(rows), slopes=1, offsets=1).T
    return _Fitted(slopes[:, None] / spread, prior + offsets[:, None], np.array([centre]))


def _fit_softmax(
    rows: Floats, one_hot: Floats, group: Indices, shared: _Prior, prior: Floats, *, per_class: bool
) -> _Fitted:
    """Of K classes; their slopes are one unless `per_class`. `group` says which subset each of `rows` is of."""
    groups, classes = len(shared.subsets), rows.shape[1]
    if not per_class:
        rows = rows - rows.mean(axis=1, keepdims=True)  # a softmax does not see it, the standard deviation would
    centre = rows.mean(axis=0)
    spread = _spread(rows - centre)
    x = (rows - centre) / spread
    member = np.eye(groups)[group]
    slopes = classes if per_class else 1

    def loss(coefficients: Floats) -> tuple[float, Floats]:
        scale, offsets = coefficients[:, :slopes], coefficients[:, slopes:]
        log_p = log_softmax(scale[group] * x + prior + offsets[group], axis=1)
        residual = np.exp(log_p) - one_hot
        by_slope = member.T @ (residual * x)
        if not per_class:
            by_slope = by_slope.sum(axis=1, keepdims=True)
        return float(-(log_p * one_hot).sum()), np.column_stack([by_slope, member.T @ residual])

    coefficients = _minimise(loss, shared, len(rows), slopes=slopes, offsets=classes)
    scale = np.broadcast_to(coefficients[:, :slopes] / spread, (groups, classes))
    return _Fitted(scale, prior + coefficients[:, slopes:], centre)


def _spread(values: Floats) -> float:
    """Standard deviation, in which slopes are measured; 1 for logits that do not vary."""
    spread = float(values.std())
    return spread if spread > 0 else 1.0


def _minimise(
    loss: Callable[[Floats], tuple[float, Floats]], shared: _Prior, rows: int, *, slopes: int, offsets: int
) -> Floats:
    """Coefficients of every subset, [G, slopes + offsets], with the least loss and penalty; slopes stay above 0."""
    from scipy.optimize import minimize  # fits alone need it, and a model that is loaded pays nothing for it

    shape = (len(shared.subsets), slopes + offsets)
    is_slope = np.broadcast_to(np.arange(slopes + offsets) < slopes, shape).ravel()

    def penalised(flat: Floats) -> tuple[float, Floats]:
        coefficients = flat.reshape(shape)
        value, gradient = loss(coefficients)
        pull = shared.precision @ coefficients
        return (value + 0.5 * float((coefficients * pull).sum())) / rows, (gradient + pull).ravel() / rows

    bounds = [(_LEAST_SLOPE, None) if slope else (None, None) for slope in is_slope]
    options = {"maxiter": 2000, "maxfun": 20000, "ftol": 1e-12, "gtol": 1e-8}
    result = minimize(penalised, is_slope.astype(float), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    gradient = penalised(result.x)[1]
    held = is_slope & (result.x <= _LEAST_SLOPE)
    gradient[held] = np.minimum(gradient[held], 0.0)
    if not np.isfinite(result.x).all() or np.abs(gradient).max() > 1e-5:
        raise TrainingError(f"the calibration did not converge on {rows} predictions: {result.message}")
    return result.x.reshape(shape)
