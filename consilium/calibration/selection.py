"""Selection: which method, and how much the modality subsets may differ, by cross-validated NLL.

On the studies that fit the probabilities, in folds that share no patient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import log_expit, logsumexp

from consilium.calibration.calibrator import CURVES, SCALING, VECTOR, Calibrator, bend, fit_calibrator, log_odds
from consilium.calibration.patients import patient_folds
from consilium.calibration.scaling import DEFAULT_SHRINKAGE, Shrinkage
from consilium.domain.findings import FindingSet

Floats = npt.NDArray[np.float64]
Fit = Callable[[Floats, Mapping[str, Floats]], dict[str, Calibrator]]

AUTO = "auto"

SHRINKAGES = (Shrinkage(0.05, 0.1), Shrinkage(0.3, 0.2), Shrinkage(0.3, 0.4))
"""What is compared: subsets that are nearly alike, that are nearly additive, and that each have their own way."""

_FOLDS = 5
_FEWEST = 10  # patients of each class, so that every fold leaves and holds some


@dataclass(frozen=True, slots=True)
class Choice:
    """How to fit.

    Attributes
    ----------
    shrinkage : Shrinkage
        As `fit_scaling`.
    nll : dict of str to float
        Cross-validated, in nats, of each method that was compared; empty where none was.
    """

    method: str
    shrinkage: Shrinkage = DEFAULT_SHRINKAGE
    nll: dict[str, float] = field(default_factory=dict)


def choose(
    method: str,
    findings: FindingSet,
    labels: Floats,
    patient_ids: npt.NDArray,
    logits: Mapping[str, Floats],
    prior: Floats,
    seed: int,
    shrinkages: Sequence[Shrinkage] = SHRINKAGES,
) -> Choice:
    """How to fit `method`, or with ``auto`` the one with the lowest cross-validated NLL.

    Scaling has the fewest parameters, so another method must beat it by a standard error of the patients' differences
    (Breiman et al., Classification and Regression Trees, 1984, section 3.4.3). Scaling, and nothing to compare it by,
    where a finding has positives or negatives of fewer than ten patients. Of independent findings vector scaling is not
    tried: it is the scaling.
    """
    if _fewest_patients(labels, patient_ids) < _FEWEST:
        return Choice(SCALING if method == AUTO else method)
    folds = _Folds(findings.exclusive, labels, patient_ids, logits, patient_folds(labels, patient_ids, _FOLDS, seed))
    shrinkage = _shrinkage(findings, folds, prior, shrinkages)
    if method != AUTO:
        return Choice(method, shrinkage)

    def every_method(labels: Floats, logits: Mapping[str, Floats]) -> dict[str, Calibrator]:
        scaled = fit_calibrator(SCALING, findings, labels, logits, prior, shrinkage)
        fitted = {SCALING: scaled}
        if findings.exclusive:
            fitted[VECTOR] = fit_calibrator(VECTOR, findings, labels, logits, prior, shrinkage)
        return fitted | {curve: bend(curve, scaled.scaling, findings, labels, logits) for curve in CURVES}

    surprise = folds.surprise(every_method)
    best = _best_but_simplest(surprise, SCALING)
    return Choice(best, shrinkage, {name: float(by_patient.mean()) for name, by_patient in surprise.items()})


def _shrinkage(findings: FindingSet, folds: _Folds, prior: Floats, candidates: Sequence[Shrinkage]) -> Shrinkage:
    if len(folds.logits) == 1:
        return DEFAULT_SHRINKAGE

    def every(labels: Floats, logits: Mapping[str, Floats]) -> dict[str, Calibrator]:
        return {
            str(number): fit_calibrator(SCALING, findings, labels, logits, prior, one)
            for number, one in enumerate(candidates)
        }

    nll = {name: by_patient.mean() for name, by_patient in folds.surprise(every).items()}
    return candidates[int(min(nll, key=nll.__getitem__))]


def _best_but_simplest(surprise: Mapping[str, Floats], simplest: str) -> str:
    """The name with the lowest mean among those that beat `simplest` by a standard error, itself where none does."""
    able = {simplest: 0.0}
    for name, by_patient in surprise.items():
        gained = by_patient - surprise[simplest]
        if gained.mean() < -gained.std(ddof=1) / np.sqrt(len(gained)):
            able[name] = float(gained.mean())
    return min(able, key=able.__getitem__)


@dataclass(frozen=True, slots=True, eq=False)
class _Folds:
    """Studies in folds: labels [N, F], patients [N], logits [N, F] per subset, fold [N]."""

    exclusive: bool
    labels: Floats
    patient_ids: npt.NDArray
    logits: Mapping[str, Floats]
    fold: npt.NDArray[np.intp]

    def surprise(self, fit: Fit) -> dict[str, Floats]:
        """NLL of each patient's answers, [P], over findings, subsets and studies, by what `fit` makes of the others."""
        answers: dict[str, Floats] = {}
        for fold in range(_FOLDS):
            others, held = self.fold != fold, self.fold == fold
            fitted = fit(self.labels[others], {subset: values[others] for subset, values in self.logits.items()})
            for name, calibrator in fitted.items():
                of_all = answers.setdefault(name, np.full((len(self.logits), *self.labels.shape), np.nan))
                for number, (subset, values) in enumerate(self.logits.items()):
                    scores = calibrator(values[held], subset, exclusive=self.exclusive)
                    of_all[number, held] = _surprise(self.labels[held], scores, exclusive=self.exclusive)
        return {name: self._by_patient(of_all) for name, of_all in answers.items()}

    def _by_patient(self, answers: Floats) -> Floats:
        patient = np.unique(self.patient_ids, return_inverse=True)[1]
        known = ~np.isnan(answers)
        total, count = (np.bincount(patient, part.sum(axis=(0, 2))) for part in (np.where(known, answers, 0.0), known))
        return total[count > 0] / count[count > 0]


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
