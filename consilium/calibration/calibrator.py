"""Calibrator: from logits to log-odds by one of the methods, and the choice between them.

Every method begins with the scaling, which brings the modality subsets onto one scale; isotonic regression and
Venn-Abers bend the scaled log-odds of all subsets by one curve per finding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_expit, logsumexp

from consilium.calibration.curves import Curve, isotonic_curve, venn_abers_curve
from consilium.calibration.patients import patient_folds
from consilium.calibration.scaling import Scaling, fit_scaling, gathered
from consilium.errors import InputError
from consilium.findings import FindingSet

Floats = npt.NDArray[np.float64]

SCALING, VECTOR, ISOTONIC, VENN_ABERS = METHODS = ("scaling", "vector", "isotonic", "venn_abers")
MOST_LOG_ODDS = 30.0  # beyond it 1 - p has lost half of its digits

_CURVES = {ISOTONIC: isotonic_curve, VENN_ABERS: venn_abers_curve}
_FOLDS = 5
_FEWEST = 10  # patients of each class, so that every fold leaves and holds some


@dataclass(frozen=True, slots=True)
class Calibrator:
    """From logits to log-odds.

    Attributes
    ----------
    curves : tuple of Curve, [F] or []
        Applied to the scaled log-odds; empty where the scaling is all.
    """

    scaling: Scaling
    curves: tuple[Curve, ...] = ()

    def __call__(self, logits: npt.ArrayLike, subset: str, *, exclusive: bool) -> Floats:
        """Calibrated scores, [..., F]: log-odds; of findings that exclude each other what a softmax is taken of."""
        scaled = self.scaling(logits, subset)
        if not self.curves:
            return scaled
        scaled = log_odds(scaled, exclusive=exclusive)
        bent = np.stack([curve(scaled[..., f]) for f, curve in enumerate(self.curves)], axis=-1)
        # One class against the others each, then brought to a sum of 1 (Zadrozny and Elkan, KDD 2002).
        return log_expit(bent) if exclusive else bent

    def to_json(self) -> dict[str, Any]:
        return {"scaling": self.scaling.to_json(), "curves": [curve.to_json() for curve in self.curves]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Calibrator:
        return cls(Scaling.from_json(data["scaling"]), tuple(Curve.from_json(curve) for curve in data["curves"]))

    def require_sound(self, name: str, findings: int) -> None:
        """`InputError` unless all is finite, rising and of `findings` findings; `name` is how the error calls it."""
        self.scaling.require_sound(f"{name}.scaling", findings)
        if len(self.curves) not in {0, findings}:
            raise InputError(f"{name}.curves", len(self.curves), f"must be none or {findings}")
        for curve in self.curves:
            curve.require_sound(f"{name}.curves")


def log_odds(scores: Floats, *, exclusive: bool) -> Floats:
    """Log-odds, [..., F], within ±30, of calibrated `scores`."""
    if exclusive:
        others = [logsumexp(np.delete(scores, k, axis=-1), axis=-1) for k in range(scores.shape[-1])]
        scores = scores - np.stack(others, axis=-1)
    return np.clip(scores, -MOST_LOG_ODDS, MOST_LOG_ODDS)


def fit_calibrator(
    method: str, findings: FindingSet, labels: Floats, logits: Mapping[str, Floats], prior: Floats
) -> Calibrator:
    """Fit `method`, one of `METHODS`, to `labels` [N, F] (NaN unknown) and `logits` [N, F] per subset.

    Raises
    ------
    TrainingError
        As `fit_scaling`.
    """
    scaling = fit_scaling(findings, labels, logits, prior, per_class=method == VECTOR)
    return _bent(method, scaling, findings, labels, logits) if method in _CURVES else Calibrator(scaling)


def _bent(
    method: str, scaling: Scaling, findings: FindingSet, labels: Floats, logits: Mapping[str, Floats]
) -> Calibrator:
    """`scaling` with a curve per finding, of the same studies."""
    scaled = {s: log_odds(scaling(values, s), exclusive=findings.exclusive) for s, values in logits.items()}
    heard = np.any([~np.isnan(values[:, 0]) for values in scaled.values()], axis=0)
    curves = []
    for f in range(len(findings)):
        known = ~np.isnan(labels[:, f])
        column = {subset: values[:, [f]] for subset, values in scaled.items()}
        scores, _, truth = gathered(column, labels[:, [f]], known)
        rows_a_study = len(scores) / max(int((heard & known).sum()), 1)
        curves.append(_CURVES[method](scores[:, 0], truth[:, 0] == 1, rows_a_study))
    return Calibrator(scaling, tuple(curves))


def choose_method(
    findings: FindingSet,
    labels: Floats,
    patient_ids: npt.NDArray,
    logits: Mapping[str, Floats],
    prior: Floats,
    seed: int,
) -> tuple[str, dict[str, float]]:
    """The method with the lowest cross-validated NLL, and that of each, in nats; the folds share no patient.

    Scaling has the fewest parameters, so another method must beat it by a standard error of the patients' differences
    (Breiman et al., Classification and Regression Trees, 1984, section 3.4.3). Scaling, and nothing to compare it by,
    where a finding has positives or negatives of fewer than ten patients. Of independent findings vector scaling is not
    tried: it is the scaling.
    """
    if _fewest_patients(labels, patient_ids) < _FEWEST:
        return SCALING, {}
    surprise = _cross_validated(findings, labels, patient_ids, logits, prior, seed)
    simplest = surprise[SCALING]
    able = {SCALING: 0.0}
    for method, by_patient in surprise.items():
        gained = by_patient - simplest
        if gained.mean() < -gained.std(ddof=1) / np.sqrt(len(gained)):
            able[method] = float(gained.mean())
    return min(able, key=able.__getitem__), {method: float(values.mean()) for method, values in surprise.items()}


def _cross_validated(
    findings: FindingSet,
    labels: Floats,
    patient_ids: npt.NDArray,
    logits: Mapping[str, Floats],
    prior: Floats,
    seed: int,
) -> dict[str, Floats]:
    """NLL of each patient's answers under each method, [P], over findings, subsets and studies."""
    fold_of = patient_folds(labels, patient_ids, _FOLDS, seed)
    surprise: dict[str, Floats] = {}
    for fold in range(_FOLDS):
        others, held = fold_of != fold, fold_of == fold
        learned = {subset: values[others] for subset, values in logits.items()}
        for method, fitted in _every_method(findings, labels[others], learned, prior).items():
            for number, (subset, values) in enumerate(logits.items()):
                scores = fitted(values[held], subset, exclusive=findings.exclusive)
                of_all = surprise.setdefault(method, np.full((len(logits), *labels.shape), np.nan))
                of_all[number, held] = _surprise(labels[held], scores, exclusive=findings.exclusive)
    patient = np.unique(patient_ids, return_inverse=True)[1]
    by_patient = {}
    for method, answers in surprise.items():
        known = ~np.isnan(answers)
        total, count = (np.bincount(patient, part.sum(axis=(0, 2))) for part in (np.where(known, answers, 0.0), known))
        by_patient[method] = total[count > 0] / count[count > 0]
    return by_patient


def _every_method(
    findings: FindingSet, labels: Floats, logits: Mapping[str, Floats], prior: Floats
) -> dict[str, Calibrator]:
    scaled = fit_calibrator(SCALING, findings, labels, logits, prior)
    fitted = {SCALING: scaled}
    if findings.exclusive:
        fitted[VECTOR] = fit_calibrator(VECTOR, findings, labels, logits, prior)
    return fitted | {method: _bent(method, scaled.scaling, findings, labels, logits) for method in _CURVES}


def _fewest_patients(labels: Floats, patient_ids: npt.NDArray) -> int:
    """Patients who have a study of the rarest class of any finding."""
    sides = [labels[:, f] == value for f in range(labels.shape[1]) for value in (0.0, 1.0)]
    return min(len(np.unique(patient_ids[side])) for side in sides)


def _surprise(labels: Floats, scores: Floats, *, exclusive: bool) -> Floats:
    """NLL of each answer in nats, [N, F], F times the same of exclusive findings; NaN where it cannot be known."""
    if not exclusive:
        bounded = log_odds(scores, exclusive=False)
        return np.where(np.isnan(labels), np.nan, -np.where(labels == 1, log_expit(bounded), log_expit(-bounded)))
    log_p = scores - logsumexp(scores, axis=1, keepdims=True)
    known = (labels == 1).any(axis=1)
    nll = np.where(known, -np.where(labels == 1, log_p, 0.0).sum(axis=1), np.nan)
    return np.broadcast_to(nll[:, None], labels.shape)
