"""Which fusion: the one that the recipe names or, under ``auto``, what a cross-validation on training studies prefers.

`fit_model` is the one way from studies to a fitted model, whatever the fusion.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.calibration import patient_bootstrap
from consilium.configuration.recipe import Recipe
from training.cohorts.splits import patient_folds
from training.data.cached_cohort import CachedCohort
from training.evaluation.metrics import Replicates, Sample, macro
from training.evaluation.predict import predict
from training.evaluation.predictions import Predictions
from training.fitting.closed_form.fit_stacked import fit_stacked
from training.fitting.fit import Fit, WarmStart
from training.fitting.teachers import fit_with_teachers
from training.runtime.tracking import MetricSink

_log = logging.getLogger(__name__)

Indices = npt.NDArray[np.int64]

_REPLICATES = 500


@dataclass(frozen=True, slots=True)
class Candidate:
    """One fusion in the cross-validation of the training studies.

    Attributes
    ----------
    auroc : float
        Out of fold, mean over findings.
    gain, standard_error : float
        AUROC minus that of the first candidate, and its standard error over patients; 0 of the first.
    """

    auroc: float
    gain: float = 0.0
    standard_error: float = 0.0

    @property
    def convinces(self) -> bool:
        """Whether it is better than the first candidate by more than a standard error."""
        return self.gain > self.standard_error


@dataclass(frozen=True, slots=True)
class FusionChoice:
    """What was chosen, and by which figures.

    Attributes
    ----------
    name : str
    candidates : dict of str to Candidate
        In the recipe's order.
    """

    name: str
    candidates: dict[str, Candidate]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def sentence(self) -> str:
        """For readers: ``stacked, of stacked .842 and concat .701 (-.141, standard error .042)``."""
        return f"{self.name}, of {' and '.join(_figures(*item) for item in self.candidates.items())}"


def _figures(name: str, one: Candidate) -> str:
    against = f" ({one.gain:+.3f}, standard error {one.standard_error:.3f})" if one.gain or one.standard_error else ""
    return f"{name} {one.auroc:.3f}{against}"


@dataclass(frozen=True, slots=True, eq=False)
class FittedModel:
    """A fit, and how its fusion was chosen; None where the recipe names it."""

    fit: Fit
    choice: FusionChoice | None = None

    @property
    def recipe(self) -> Recipe:
        """With the fusion that was taken."""
        return self.fit.preprocessing.recipe


def fit_model(
    cached: CachedCohort,
    recipe: Recipe,
    train: Indices,
    validation: Indices | None,
    folder: Path,
    sink: Callable[[str], MetricSink],
    *,
    epochs: int | None = None,
    progress: bool = False,
    start: WarmStart | None = None,
) -> FittedModel:
    """Fit on the studies at `train` by the recipe's fusion, or by the one that is chosen on them.

    The closed form needs no studies to stop by, so it learns from those at `validation`, too.

    Parameters
    ----------
    validation : int [n] or None
    folder : Path
        Of this fit alone; trainings that it holds of an interrupted call are continued.
    sink : callable
        Where the metrics of a part of the training go, ``""`` for all of it.
    epochs : int or None
    start : WarmStart or None
        As `training.fitting.fit.fit`; of a fusion that is named and trained by gradient descent.

    Raises
    ------
    TrainingError
        As `fit_stacked` and `fit_with_teachers`.
    """
    if recipe.fusion.name != "auto":
        return FittedModel(
            _fit(cached, recipe, train, validation, folder, sink, epochs, progress=progress, start=start)
        )
    rows = train if validation is None else np.sort(np.concatenate([train, validation]))
    found = _out_of_fold(cached, recipe, rows, folder, sink, progress=progress)
    choice = choose_fusion(found, recipe)
    _log.info("fusion: %s", choice.sentence)
    chosen = with_fusion(recipe, choice.name)
    fitted = _fit(cached, chosen, train, validation, folder / choice.name, sink, epochs, progress=progress)
    return FittedModel(fitted, choice)


def with_fusion(recipe: Recipe, name: str) -> Recipe:
    """`recipe` with the fusion of that name."""
    return recipe.model_copy(update={"fusion": recipe.fusion.model_copy(update={"name": name})})


def _fit(
    cached: CachedCohort,
    recipe: Recipe,
    train: Indices,
    validation: Indices | None,
    folder: Path,
    sink: Callable[[str], MetricSink],
    epochs: int | None,
    *,
    progress: bool,
    start: WarmStart | None = None,
) -> Fit:
    if recipe.fusion.linear:
        rows = train if validation is None else np.sort(np.concatenate([train, validation]))
        return fit_stacked(cached, recipe, rows)
    return fit_with_teachers(
        cached, recipe, train, validation, folder, sink, epochs=epochs, progress=progress, start=start
    )


def _out_of_fold(
    cached: CachedCohort,
    recipe: Recipe,
    rows: Indices,
    folder: Path,
    sink: Callable[[str], MetricSink],
    *,
    progress: bool,
) -> dict[str, Predictions]:
    """Out-of-fold predictions of every candidate, on the same patient-grouped folds of `rows`."""
    cohort = cached.cohort
    pairs = patient_folds(cohort.labels[rows], cohort.patient_ids[rows], recipe.fusion.folds, recipe.seed)
    found: dict[str, Predictions] = {}
    for name in recipe.fusion.candidates:
        candidate, parts = with_fusion(recipe, name), []
        for number, (train, test) in enumerate(pairs, start=1):
            part = f"{name}_{number}"
            _log.info("fusion %s, fold %d of %d of the training studies", name, number, len(pairs))
            fitted = _fit(
                cached, candidate, rows[train], None, folder / part, _below(sink, part), None, progress=progress
            )
            predicted = predict(fitted.model, fitted.preprocessing, cached, rows[test], candidate)
            parts.append(replace(predicted, features={}))
        found[name] = Predictions.concatenate(parts)
    return found


def _below(sink: Callable[[str], MetricSink], part: str) -> Callable[[str], MetricSink]:
    return lambda name: sink(f"{part}/{name}" if name else part)


def choose_fusion(found: Mapping[str, Predictions], recipe: Recipe) -> FusionChoice:
    """The candidate with the highest AUROC of those that beat the first by more than a standard error, else the first.

    Parameters
    ----------
    found : mapping of str to Predictions
        Out of fold, of each candidate, of the same studies in the same order; the simplest first.
    """
    aurocs = {name: _auroc(predictions, recipe.seed) for name, predictions in found.items()}
    first, *others = aurocs
    candidates = {first: Candidate(float(aurocs[first][0]))}
    for name in others:
        gain = aurocs[name] - aurocs[first]
        candidates[name] = Candidate(float(aurocs[name][0]), float(gain[0]), float(np.nanstd(gain[1:], ddof=1)))
    able = [name for name, one in candidates.items() if one.convinces]
    return FusionChoice(max(able, key=lambda name: candidates[name].auroc, default=first), candidates)


def _auroc(predictions: Predictions, seed: int) -> Replicates:
    """From what each study has, mean over findings, in the sample and in replicates over patients."""
    weights = patient_bootstrap(predictions.patient_ids, _REPLICATES, seed)
    answers = predictions.as_present(predictions.fused)
    return macro(Sample(predictions.labels, weights).measure(answers)).figures["auroc"]
