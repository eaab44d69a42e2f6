"""Simple methods on the same folds: what a network has to beat before its size is justified.

Each reads one modality (`training.training_side.TrainingSide.baseline`); `average` is the mean of some of them,
calibrated. All hyperparameters were fixed beforehand; nothing is tuned here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from consilium.configuration.modality_sections import Scope
from training.cohorts.splits import Fold, Indices, patient_folds
from training.data.cached_cohort import CachedCohort
from training.training_side import Baseline, Readable, Source, training_sides

Probabilities = npt.NDArray[np.float64]
AVERAGE = "average"

_INNER_FOLDS = 3


@dataclass(frozen=True, slots=True, eq=False)
class _Targets:
    """Labels [N, F] (NaN unknown), whether exactly one of them is true, and the patient of each row."""

    labels: npt.NDArray[np.float32]
    exclusive: bool
    patient_ids: npt.NDArray[np.str_]


def baselines() -> dict[str, Baseline]:
    """The simple method of each installed modality that has one, by modality."""
    found = {side.name: side.baseline() for side in training_sides()}
    return {name: baseline for name, baseline in found.items() if baseline is not None}


def baseline_names() -> tuple[str, ...]:
    """The names of the columns of predictions, the average last."""
    return (*(baseline.name for baseline in baselines().values()), AVERAGE)


def baseline_predictions(
    cached: CachedCohort, folds: Sequence[Fold], *, inputs: Scope | None = None, seed: int = 0
) -> dict[str, Probabilities]:
    """Out-of-fold probabilities of every baseline.

    Parameters
    ----------
    cached : CachedCohort
    folds : sequence of (train, test)
        Indices into the cohort; `training.cohorts.splits.folds` makes them.
    inputs : Scope, optional
        Which records are read, and how far from the reference time one may lie.
    seed : int

    Returns
    -------
    dict of str to float64 [N, F]
        By name, in the order of `baseline_names`. NaN where a study lacks the modality or stands in no test side. The
        values baseline predicts for all: age, sex and which values are missing are there to go by.
    """
    cohort = cached.cohort
    studies = [record.readable(inputs or Scope()) for record in cohort.records]
    readable = Readable(cached, studies, seed)
    methods = baselines()
    sources = {modality: baseline.source(readable) for modality, baseline in methods.items()}
    targets = _Targets(cohort.labels, cohort.findings.exclusive, cohort.patient_ids)
    outputs = {name: np.full(targets.labels.shape, np.nan) for name in baseline_names()}
    averaged = [modality for modality, baseline in methods.items() if baseline.averaged]
    for train, test in folds:
        for modality, source in sources.items():
            outputs[methods[modality].name][test] = _fit_predict(source, targets, train, test)
        alone = [outputs[methods[modality].name][test] for modality in averaged]
        outputs[AVERAGE][test] = _calibrated_average([sources[m] for m in averaged], alone, targets, train, seed)
    return outputs


def _fit_predict(source: Source, targets: _Targets, train: Indices, test: Indices) -> Probabilities:
    """Probabilities [len(test), F] of a classifier fitted on `train`; NaN where the test study lacks the modality."""
    predicted = np.full((len(test), targets.labels.shape[1]), np.nan)
    present = source.present[test]
    train = train[source.present[train]]
    if not present.any():
        return predicted
    if targets.exclusive:
        known = train[~np.isnan(targets.labels[train]).any(axis=1)]
        predicted[present] = _classes(
            source, known, targets.labels[known].argmax(axis=1), test[present], predicted.shape[1]
        )
        return predicted
    for column in range(predicted.shape[1]):
        known = train[~np.isnan(targets.labels[train, column])]
        wanted = targets.labels[known, column].astype(int)
        predicted[present, column] = _classes(source, known, wanted, test[present], 2)[:, 1]
    return predicted


def _classes(source: Source, train: Indices, wanted: Indices, test: Indices, number: int) -> Probabilities:
    """Probability of each of `number` classes; 0 for one that no training study with this modality shows."""
    seen = np.unique(wanted)
    if len(seen) == 0:
        return np.full((len(test), number), np.nan)
    probabilities = np.zeros((len(test), number))
    if len(seen) == 1:
        probabilities[:, seen[0]] = 1
        return probabilities
    classifier = source.classifier().fit(source.inputs[train], wanted)
    probabilities[:, classifier.classes_] = classifier.predict_proba(source.inputs[test])
    return probabilities


def _calibrated_average(
    sources: Sequence[Source], alone: Sequence[Probabilities], targets: _Targets, train: Indices, seed: int
) -> Probabilities:
    """Mean over the sources that a study has, each calibrated on inner patient-grouped folds of `train`."""
    inner = patient_folds(targets.labels[train], targets.patient_ids[train], _INNER_FOLDS, seed)
    calibrated = []
    for source, predicted in zip(sources, alone, strict=True):
        held_out = np.full((len(train), predicted.shape[1]), np.nan)
        for inner_train, inner_test in inner:
            held_out[inner_test] = _fit_predict(source, targets, train[inner_train], train[inner_test])
        scaled = np.column_stack(
            [
                _platt(held_out[:, column], targets.labels[train, column], predicted[:, column])
                for column in range(predicted.shape[1])
            ]
        )
        calibrated.append(scaled / scaled.sum(axis=1, keepdims=True) if targets.exclusive else scaled)
    return np.nanmean(np.stack(calibrated), axis=0)


def _platt(
    held_out: npt.NDArray[np.float64], labels: npt.NDArray[np.float32], predicted: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """`predicted` on the scale fitted from `held_out` to `labels` (Platt, 1999); unchanged where one class is known."""
    usable = ~np.isnan(held_out) & ~np.isnan(labels)
    present = ~np.isnan(predicted)
    if len(np.unique(labels[usable])) < 2 or not present.any():
        return predicted
    scale = LogisticRegression(C=1.0).fit(_log_odds(held_out[usable]), labels[usable].astype(int))
    calibrated = np.full(predicted.shape, np.nan)
    calibrated[present] = scale.predict_proba(_log_odds(predicted[present]))[:, 1]
    return calibrated


def _log_odds(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    clipped = np.clip(probabilities, 1e-4, 1 - 1e-4)
    return np.log(clipped / (1 - clipped))[:, None]
