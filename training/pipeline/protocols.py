"""How a model is evaluated: on a held-out split, or out of fold, by patient or by source. All end in an `Outcome`.

Thresholds, sets and p-values are fitted on patients of neither the training nor the evaluation: the calibration split,
or the other folds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.calibration import Calibration
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from consilium.explain.similar_cases import Neighbours
from consilium.network.diagnosis_model import FUSED
from consilium.referral.out_of_distribution import NoveltyDetector, Scores
from training.audit.sources import LEAST_PATIENTS, source_folds
from training.cohorts.cohort import Cohort
from training.cohorts.splits import Fold, folds, split_cohort, stratified_parts
from training.data.thumbnails import thumbnails
from training.evaluation.baselines import baseline_predictions
from training.evaluation.evaluate import calibrate, evaluate, evaluate_folds
from training.evaluation.predict import predict, predict_training
from training.evaluation.predictions import Predictions
from training.evaluation.results import Evaluation
from training.fitting.fit import Fit
from training.fitting.teachers import fit_with_teachers
from training.pipeline.context import Stage
from training.pipeline.extra_tables import TestedModel, further_tables
from training.pipeline.preflight import require_folds, require_split
from training.runtime.tracking import MetricSink

Indices = npt.NDArray[np.int64]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a protocol ends in: the model to ship, all that ships with it, and how it did.

    Attributes
    ----------
    novelty : NoveltyDetector or None
        Calibrated; None where the recipe does not refer by novelty.
    neighbours : Neighbours
        The studies that the model learned from.
    steps : int
        Optimiser steps, of all fits together.
    studies : dict of str to int
        Size of each part, under the part's name.
    """

    fit: Fit
    calibration: Calibration
    novelty: NoveltyDetector | None
    neighbours: Neighbours
    evaluation: Evaluation
    steps: int
    studies: dict[str, int]


def held_out_split(stage: Stage) -> Outcome:
    """One model, evaluated on studies that nothing of it was fitted on."""
    recipe, cohort = stage.recipe, stage.cohort
    parts = split_cohort(cohort, recipe.splits.model_dump(), recipe.seed)
    names = np.empty(len(cohort), dtype=object)
    for name, rows in parts.items():
        names[rows] = name
    stage.run.log_cohort(cohort, names)
    require_split(stage.cached, recipe, parts, stage.oracle)
    trained = _fit(stage, parts["train"], parts["validation"], "fit")
    learned, novelty = _learned(stage, trained, parts["train"])
    held_out = _predict(stage, trained, parts["calibration"], novelty)
    tested = _predict(stage, trained, parts["test"], novelty)
    calibration = calibrate(held_out, cohort.findings, recipe.calibration, **_resampling(recipe))
    novelty = _calibrated(novelty, held_out.novelty)
    seen = np.sort(np.concatenate([parts["train"], parts["validation"]]))
    evaluation = evaluate(
        tested,
        calibration,
        cohort.findings,
        oracle=stage.oracle,
        baselines=_baselines(stage, [(seen, parts["test"])], tested),
        further=lambda scored, fitted: further_tables(
            stage, TestedModel(trained, fitted, novelty, parts["test"], tested), scored
        ),
        **_resampling(recipe),
    )
    return Outcome(
        trained,
        calibration,
        novelty,
        _neighbours(stage, learned),
        evaluation,
        trained.steps,
        {name: len(rows) for name, rows in parts.items()},
    )


def cross_validation(stage: Stage) -> Outcome:
    """`_out_of_fold` over patient-grouped, stratified folds."""
    recipe = stage.recipe
    pairs = folds(stage.cohort, recipe.evaluation.folds, recipe.seed)
    return _out_of_fold(stage, {f"fold {number}": pair for number, pair in enumerate(pairs, start=1)})


def leave_one_source_out(stage: Stage) -> Outcome:
    """`_out_of_fold` with a fold for each source, evaluated by a model of the other sources without its patients.

    Sources with too few patients of a class, and studies of an unknown one, are not evaluated.
    """
    left_out = source_folds(stage.cohort)
    if len(left_out) < 2:
        raise TrainingError(
            f"leave_one_source_out needs two sources with {LEAST_PATIENTS} patients of each class, got {len(left_out)}"
        )
    return _out_of_fold(stage, {f"source {fold.source}": (fold.train, fold.test) for fold in left_out})


def _out_of_fold(stage: Stage, parts: Mapping[str, Fold]) -> Outcome:
    """Out-of-fold predictions, then one model of all studies, calibrated on them.

    Each fold's training part gives up a share of its patients to find the number of epochs; the last model takes the
    folds' mean. A recipe with no share for validation trains all of its epochs instead: of a small cohort, the few
    patients that could be spared say too little about when to stop. What is measured on a single model,
    out-of-distribution inputs and explanations, is measured on that of the first fold.
    """
    recipe, cohort, pairs = stage.recipe, stage.cohort, list(parts.values())
    names = np.full(len(cohort), "not evaluated", dtype=object)
    for name, (_, test) in parts.items():
        names[test] = name
    stage.run.log_cohort(cohort, names)
    inner_parts = [inner_split(cohort, train_rows, recipe) for train_rows, _ in pairs]
    require_folds(stage.cached, recipe, pairs, inner_parts, stage.oracle)
    fits, detectors, out_of_fold = _fitted_folds(stage, parts, inner_parts)
    pooled = Predictions.concatenate(out_of_fold)
    others = Predictions.concatenate(out_of_fold[1:])
    novelty_of_first = _calibrated(detectors[0], others.novelty)
    evaluation, calibration = evaluate_folds(
        out_of_fold,
        cohort.findings,
        recipe.calibration,
        oracle=stage.oracle,
        baselines=_baselines(stage, pairs, pooled),
        further=lambda scored, fitted: further_tables(
            stage, TestedModel(fits[0], fitted, novelty_of_first, pairs[0][1], pooled), scored
        ),
        **_resampling(recipe),
    )
    epochs = max(1, round(float(np.mean([one.epochs for one in fits]))))
    _log.info("the model of all studies: %d epochs", epochs)
    final = _fit(stage, np.arange(len(cohort)), None, "final", epochs)
    learned, novelty = _learned(stage, final, np.arange(len(cohort)))
    return Outcome(
        final,
        calibration,
        # Scores are in standard deviations of each detector's own training studies, so those of the folds will do.
        _calibrated(novelty, pooled.novelty),
        _neighbours(stage, learned),
        evaluation,
        sum(one.steps for one in [*fits, final]),
        {"train": len(cohort), "out_of_fold": len(pooled)},
    )


def _fitted_folds(
    stage: Stage, parts: Mapping[str, Fold], inner_parts: Sequence[tuple[Indices, Indices | None]]
) -> tuple[list[Fit], list[NoveltyDetector | None], list[Predictions]]:
    """The model of every fold, its detector, and its predictions of the fold."""
    fits, detectors, out_of_fold = [], [], []
    for number, (name, (_, test)) in enumerate(parts.items(), start=1):
        _log.info("%s (%d of %d)", name, number, len(parts))
        inner, validation = inner_parts[number - 1]
        fits.append(_fit(stage, inner, validation, f"fold_{number}"))
        detectors.append(_learned(stage, fits[-1], inner)[1])
        out_of_fold.append(_predict(stage, fits[-1], test, detectors[-1]))
    return fits, detectors, out_of_fold


PROTOCOLS: dict[str, Callable[[Stage], Outcome]] = {
    "split": held_out_split,
    "cross_validation": cross_validation,
    "leave_one_source_out": leave_one_source_out,
}


def inner_split(cohort: Cohort, rows: Indices, recipe: Recipe) -> tuple[Indices, Indices | None]:
    """Training and validation rows of a fold's training part, in the recipe's proportion, by patient."""
    if recipe.splits.validation == 0:
        return rows, None
    wanted = np.array([recipe.splits.train, recipe.splits.validation])
    generator = np.random.default_rng(recipe.seed)
    part = stratified_parts(cohort.labels[rows], cohort.patient_ids[rows], wanted / wanted.sum(), generator)
    return rows[part == 0], rows[part == 1]


def _fit(stage: Stage, rows: Indices, validation: Indices | None, name: str, epochs: int | None = None) -> Fit:
    prefix = [] if name == "fit" else [name]

    def sink(part: str) -> MetricSink:
        return stage.run.prefixed("/".join([*prefix, *([part] if part else [])]))

    return fit_with_teachers(
        stage.cached,
        stage.recipe,
        rows,
        validation,
        stage.folder / name,
        sink,
        epochs=epochs,
        progress=stage.progress,
    )


def _learned(stage: Stage, trained: Fit, rows: Indices) -> tuple[Predictions, NoveltyDetector | None]:
    return predict_training(trained.model, trained.preprocessing, stage.cached, rows, stage.recipe)


def _predict(stage: Stage, trained: Fit, rows: Indices, novelty: NoveltyDetector | None) -> Predictions:
    return predict(trained.model, trained.preprocessing, stage.cached, rows, stage.recipe, novelty)


def _calibrated(novelty: NoveltyDetector | None, scores: Scores) -> NoveltyDetector | None:
    return None if novelty is None else novelty.calibrated(scores)


def _neighbours(stage: Stage, learned: Predictions) -> Neighbours:
    return Neighbours.fit(
        learned.features[FUSED],
        learned.labels,
        learned.present,
        learned.study_ids,
        stage.cohort.digest,
        stage.cohort.findings,
    )


def _resampling(recipe: Recipe) -> dict[str, Any]:
    return {"bootstrap": recipe.evaluation.bootstrap, "seed": recipe.seed}


def _baselines(stage: Stage, pairs: Sequence[Fold], predictions: Predictions) -> dict[str, npt.NDArray] | None:
    """Simple methods on the same folds, in the order of `predictions`."""
    if not stage.recipe.evaluation.baselines:
        return None
    _log.info("baselines")
    images, has_image = thumbnails(stage.cached)
    found = baseline_predictions(
        stage.cohort, images, has_image, pairs, inputs=stage.recipe.scope, seed=stage.recipe.seed
    )
    place = {record.study_id: row for row, record in enumerate(stage.cohort.records)}
    order = [place[study] for study in predictions.study_ids.tolist()]
    return {name: probabilities[order] for name, probabilities in found.items()}
