"""Simple methods on the same folds: what a network has to beat before its size is justified.

Three read one modality each, `values_hog_average` averages the calibrated two that read no text. All hyperparameters
were fixed beforehand; nothing is tuned here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.feature import hog
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from consilium.configuration.modality_sections import Scope
from consilium.domain.study import Sex, Study
from consilium.domain.variables import Variable, VariableTable
from consilium.modalities.observations.observation import Observation
from training.cohorts.cohort import Cohort, StudyRecord
from training.cohorts.splits import Fold, Indices, patient_folds

Probabilities = npt.NDArray[np.float64]
AVERAGE = "values_hog_average"

_INNER_FOLDS = 3
_HOG_CELLS = 8


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """What one baseline reads: features or texts [N, ...], which studies have them, and a new classifier of them."""

    inputs: npt.NDArray[Any]
    present: npt.NDArray[np.bool_]
    classifier: Callable[[], Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Readable:
    """What the baselines may read of N studies; see `baseline_predictions`."""

    studies: Sequence[Study]
    variables: VariableTable
    images: npt.NDArray[np.float32]
    has_image: npt.NDArray[np.bool_]
    seed: int


@dataclass(frozen=True, slots=True)
class _Baseline:
    """A simple method that reads one modality.

    Attributes
    ----------
    averaged : bool
        Part of the average of those that read no text.
    """

    name: str
    source: Callable[[_Readable], _Source]
    averaged: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Targets:
    """Labels [N, F] (NaN unknown), whether exactly one of them is true, and the patient of each row."""

    labels: npt.NDArray[np.float32]
    exclusive: bool
    patient_ids: npt.NDArray[np.str_]


def baseline_predictions(
    cohort: Cohort,
    images: npt.NDArray[np.float32],
    has_image: npt.NDArray[np.bool_],
    folds: Sequence[Fold],
    *,
    inputs: Scope | None = None,
    seed: int = 0,
) -> dict[str, Probabilities]:
    """Out-of-fold probabilities of every baseline.

    Parameters
    ----------
    cohort : Cohort
    images : float32 [N, S, S]
        One small grey image a study, 0 to 1, without NaN, S a multiple of 8. Where `has_image` is false it is not read.
    has_image : bool [N]
    folds : sequence of (train, test)
        Indices into the cohort; `training.cohorts.splits.folds` makes them.
    inputs : Scope, optional
        Which kinds of notes are read, and how far from the reference time a record may lie.
    seed : int

    Returns
    -------
    dict of str to float64 [N, F]
        By name, in the order of `NAMES`. NaN where a study lacks the modality or stands in no test side. The values
        baseline predicts for all: age, sex and which values are missing are there to go by.
    """
    if len(images) != len(cohort) or has_image.shape != (len(cohort),):
        raise ValueError(f"images {images.shape} and has_image {has_image.shape} must have one row per study")
    studies = [readable_study(record, inputs or Scope()) for record in cohort.records]
    readable = _Readable(studies, cohort.variables, images, has_image, seed)
    sources = {modality: baseline.source(readable) for modality, baseline in BASELINES.items()}
    targets = _Targets(cohort.labels, cohort.findings.exclusive, cohort.patient_ids)
    outputs = {name: np.full(targets.labels.shape, np.nan) for name in NAMES}
    averaged = [modality for modality, baseline in BASELINES.items() if baseline.averaged]
    for train, test in folds:
        for modality, source in sources.items():
            outputs[BASELINES[modality].name][test] = _fit_predict(source, targets, train, test)
        alone = [outputs[BASELINES[modality].name][test] for modality in averaged]
        outputs[AVERAGE][test] = _calibrated_average([sources[m] for m in averaged], alone, targets, train, seed)
    return outputs


def readable_study(record: StudyRecord, inputs: Scope) -> Study:
    """`record` as a model would see it that reads `inputs`, without its images."""
    acquired = [image.acquired for image in record.images if image.acquired is not None]
    reference = record.reference_time or min(acquired, default=None)
    return inputs.study(replace(record.study(()), reference_time=reference))


def _values_source(readable: _Readable) -> _Source:
    studies, variables, seed = readable.studies, readable.variables, readable.seed
    column = {name: number for number, name in enumerate(_value_columns(variables))}
    features = np.full((len(studies), len(column) + 3), np.nan)
    # A constant, which carries nothing, for studies of which nothing was measured.
    features[:, -3] = 0
    for row, study in enumerate(studies):
        features[row, -2] = np.nan if study.patient.age is None else study.patient.age
        features[row, -1] = {Sex.FEMALE: 0.0, Sex.MALE: 1.0}.get(study.patient.sex, np.nan)
        for observation in sorted(study.parts.get("observations", ()), key=_when):
            if not observation.implausible:
                for name, value in _value_cells(observation, variables[observation.variable]):
                    features[row, column[name]] = value

    def classifier() -> Pipeline:
        boosting = HistGradientBoostingClassifier(
            learning_rate=0.05,
            max_iter=100,
            max_leaf_nodes=8,
            min_samples_leaf=10,
            l2_regularization=1.0,
            random_state=seed,
        )
        # A column without any value cannot be binned.
        return make_pipeline(ColumnTransformer([("measured", "passthrough", _measured)]), boosting)

    return _Source(features, np.ones(len(studies), bool), classifier)


def _value_columns(variables: VariableTable) -> list[str]:
    """One for each variable: its number, or its place in the order. One for each category where these have no order."""
    return [name for variable in variables.values() for name in (_category_columns(variable) or [variable.name])]


def _category_columns(variable: Variable) -> list[str]:
    return [] if variable.ordered else [f"{variable.name}={category}" for category in variable.categories]


def _value_cells(observation: Observation, variable: Variable) -> list[tuple[str, float]]:
    columns = _category_columns(variable)
    if not columns:
        return [(variable.name, observation.value)]
    return [(name, float(name == f"{variable.name}={observation.category}")) for name in columns]


def _measured(features: npt.NDArray[np.float64]) -> Indices:
    return np.flatnonzero(~np.isnan(features).all(axis=0))


def _when(observation: Observation) -> tuple[bool, datetime]:
    """Sort key: the latest of several values stands; one without a time yields to those that have one."""
    return observation.time is not None, observation.time or datetime.min


def _image_source(readable: _Readable) -> _Source:
    images, has_image = readable.images, readable.has_image
    cell = images.shape[1] // _HOG_CELLS
    size = cell * _HOG_CELLS
    length = 8 * 4 * (_HOG_CELLS - 1) ** 2
    features = np.zeros((len(images), length), np.float32)
    for row in np.flatnonzero(has_image):
        features[row] = hog(
            images[row, :size, :size], orientations=8, pixels_per_cell=(cell, cell), cells_per_block=(2, 2)
        )

    def classifier() -> Pipeline:
        return make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=2000))

    return _Source(features, has_image, classifier)


def _note_source(readable: _Readable) -> _Source:
    texts = [" ".join(note.text for note in study.parts.get("text", ())) for study in readable.studies]

    def classifier() -> Pipeline:
        return make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=1.0, max_iter=2000)
        )

    has_word = np.array([re.search(r"\w\w", text) is not None for text in texts], bool)
    return _Source(np.array(texts, dtype=object), has_word, classifier)


BASELINES: Mapping[str, _Baseline] = {
    "observations": _Baseline("values_gradient_boosting", _values_source, averaged=True),
    "image": _Baseline("image_hog", _image_source, averaged=True),
    "text": _Baseline("note_tfidf", _note_source, averaged=False),
}
"""By the modality that they read; other modalities have none."""
NAMES = (*(baseline.name for baseline in BASELINES.values()), AVERAGE)


def _fit_predict(source: _Source, targets: _Targets, train: Indices, test: Indices) -> Probabilities:
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


def _classes(source: _Source, train: Indices, wanted: Indices, test: Indices, number: int) -> Probabilities:
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
    sources: Sequence[_Source], alone: Sequence[Probabilities], targets: _Targets, train: Indices, seed: int
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
