"""How a model is evaluated: on a held-out split, or out of fold, by patient or by source. All end in an `Outcome`.

Thresholds, sets and p-values are fitted on patients of neither the training nor the evaluation: the calibration split,
or the other folds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.calibration import Calibration
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from consilium.explain.similar_cases import Neighbours
from consilium.monitoring.reference import MonitoringReference
from consilium.network.diagnosis_model import FUSED
from consilium.referral.out_of_distribution import OutOfDistributionDetector, Scores
from training.audit.sources import LEAST_PATIENTS, source_folds
from training.cohorts.cohort import Cohort
from training.cohorts.splits import Fold, folds, split_cohort, stratified_parts
from training.evaluation.baselines import baseline_predictions
from training.evaluation.evaluate import calibrate, evaluate, evaluate_folds, rows_of_folds
from training.evaluation.predict import predict, predict_training
from training.evaluation.predictions import Predictions
from training.evaluation.results import Evaluation
from training.evaluation.rows import Row
from training.fitting.fit import Fit
from training.fitting.fusion_choice import FittedModel, FusionChoice, fit_model
from training.pipeline.context import Stage
from training.pipeline.extra_tables import TestedModel, further_tables
from training.pipeline.monitoring_reference import monitoring_reference
from training.pipeline.preflight import require_folds, require_split
from training.pipeline.repeated_folds import with_repeats
from training.runtime.tracking import MetricSink

Indices = npt.NDArray[np.int64]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a protocol ends in: the model to ship, all that ships with it, and how it did.

    Attributes
    ----------
    detector : OutOfDistributionDetector or None
        Calibrated; None where the recipe has no `refer.out_of_distribution`.
    neighbours : Neighbours
        The studies that the model learned from.
    monitoring : MonitoringReference
        Of the studies that it has not learned from.
    steps : int
        Optimiser steps, of all fits together.
    studies : dict of str to int
        Size of each part, under the part's name.
    choice : FusionChoice or None
        How the fusion of the model was chosen; None where the recipe names it.
    """

    fit: Fit
    calibration: Calibration
    detector: OutOfDistributionDetector | None
    neighbours: Neighbours
    monitoring: MonitoringReference
    evaluation: Evaluation
    steps: int
    studies: dict[str, int]
    choice: FusionChoice | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Who is where in one training.

    Attributes
    ----------
    parts : mapping of str to int64 [n]
        Rows of each split, or of each fold's test part.
    folds : mapping of str to Fold
        Rows that each fold trains on and tests, by the same names; empty where there are splits.
    """

    parts: Mapping[str, Indices]
    folds: Mapping[str, Fold]

    @classmethod
    def of_folds(cls, folds: Mapping[str, Fold]) -> Plan:
        return cls({name: test for name, (_, test) in folds.items()}, folds)

    def names(self, studies: int) -> npt.NDArray[np.object_]:
        """The part of each of `studies` studies."""
        names = np.full(studies, "not evaluated", dtype=object)
        for name, rows in self.parts.items():
            names[rows] = name
        return names

    def sides(self, patient_ids: npt.NDArray[np.str_]) -> list[str]:
        """As `names`, of studies of the patients [N]; one side for all studies of a patient.

        Of a patient in several parts, as a source left out may share with the others, no part trains on what another
        one tests.
        """
        names = self.names(len(patient_ids))
        of_patient = {patient: sorted({*names[patient_ids == patient]}) for patient in np.unique(patient_ids)}
        return [" and ".join(of_patient[patient]) for patient in patient_ids]


def _plan_splits(cohort: Cohort, recipe: Recipe) -> Plan:
    return Plan(split_cohort(cohort, recipe.splits.model_dump(), recipe.seed), {})


def _held_out_split(stage: Stage, plan: Plan) -> Outcome:
    """One model, evaluated on studies that nothing of it was fitted on."""
    recipe, cohort, parts = stage.recipe, stage.cohort, plan.parts
    stage.run.log_cohort(cohort, plan.names(len(cohort)))
    require_split(stage.cached, recipe, parts, stage.oracle)
    fitted = _fit(stage, parts["train"], parts["validation"], "fit")
    trained = fitted.fit
    learned, detector = _learned(stage, trained, parts["train"])
    held_out = _predict(stage, trained, parts["calibration"], detector)
    tested = _predict(stage, trained, parts["test"], detector)
    calibration = calibrate(held_out, cohort.findings, recipe.calibration, **_resampling(recipe))
    detector = _calibrated(detector, held_out.out_of_distribution)
    seen = np.sort(np.concatenate([parts["train"], parts["validation"]]))
    evaluation = evaluate(
        tested,
        calibration,
        cohort.findings,
        oracle=stage.oracle,
        baselines=_baselines(stage, [(seen, parts["test"])], tested),
        further=lambda scored, shipped: further_tables(
            stage, TestedModel(trained, shipped, detector, parts["test"], tested), scored
        ),
        **_resampling(recipe),
    )
    return Outcome(
        trained,
        calibration,
        detector,
        _neighbours(stage, learned),
        monitoring_reference(stage.cached, learned, [held_out, tested], calibration, recipe.seed),
        evaluation,
        trained.steps,
        {name: len(rows) for name, rows in parts.items()},
        fitted.choice,
    )


def _plan_folds(cohort: Cohort, recipe: Recipe) -> Plan:
    """Patient-grouped, stratified folds."""
    return _drawn_folds(cohort, recipe, 0)


def _drawn_folds(cohort: Cohort, recipe: Recipe, draw: int) -> Plan:
    """The folds of the draw number `draw`, from 0 on."""
    pairs = folds(cohort, recipe.evaluation.folds, recipe.seed + draw)
    return Plan.of_folds({f"fold {number}": pair for number, pair in enumerate(pairs, start=1)})


def _plan_sources(cohort: Cohort, _: Recipe) -> Plan:
    """A fold for each source, evaluated by a model of the other sources without its patients.

    Sources with too few patients of a class, and studies of an unknown one, are not evaluated.
    """
    left_out = source_folds(cohort)
    if len(left_out) < 2:
        raise TrainingError(
            f"leave_one_source_out needs two sources with {LEAST_PATIENTS} patients of each class, got {len(left_out)}"
        )
    return Plan.of_folds({f"source {fold.source}": (fold.train, fold.test) for fold in left_out})


def _out_of_fold(stage: Stage, plan: Plan) -> Outcome:
    """Out-of-fold predictions, then one model of all studies, calibrated on them.

    All is evaluated and calibrated on the folds of `plan`. The recipe may have folds drawn again, which show how much
    of it hangs on the draw.

    Each fold's training part gives up a share of its patients to find the number of epochs; the last model takes the
    folds' mean. A recipe with no share for validation trains all of its epochs instead: of a small cohort, the few
    patients that could be spared say too little about when to stop. What is measured on a single model,
    out-of-distribution inputs and explanations, is measured on that of the first fold.
    """
    recipe, cohort, pairs = stage.recipe, stage.cohort, list(plan.folds.values())
    stage.run.log_cohort(cohort, plan.names(len(cohort)))
    others = [_drawn_folds(cohort, recipe, draw) for draw in range(1, recipe.evaluation.repeats)]
    for drawn in (plan, *others):
        inner = [inner_split(cohort, train_rows, recipe) for train_rows, _ in drawn.folds.values()]
        require_folds(stage.cached, recipe, list(drawn.folds.values()), inner, stage.oracle)
    fits, detectors, out_of_fold = _fitted_folds(stage, plan.folds)
    pooled = Predictions.concatenate(out_of_fold)
    detector_of_first = _calibrated(detectors[0], Predictions.concatenate(out_of_fold[1:]).out_of_distribution)
    evaluation, calibration = evaluate_folds(
        out_of_fold,
        cohort.findings,
        recipe.calibration,
        oracle=stage.oracle,
        baselines=_baselines(stage, pairs, pooled),
        further=lambda scored, shipped: further_tables(
            stage, TestedModel(fits[0], shipped, detector_of_first, pairs[0][1], pooled), scored
        ),
        **_resampling(recipe),
    )
    repeats = [_rows_of_folds(stage, drawn.folds, number, pooled) for number, drawn in enumerate(others, start=2)]
    evaluation = with_repeats(evaluation, repeats, **_resampling(recipe))
    epochs = max(1, round(float(np.mean([one.epochs for one in fits]))))
    _log.info("the model of all studies")
    fitted = _fit(stage, np.arange(len(cohort)), None, "final", epochs)
    final = fitted.fit
    learned, detector = _learned(stage, final, np.arange(len(cohort)))
    return Outcome(
        final,
        calibration,
        # Scores are in standard deviations of each detector's own training studies, so those of the folds will do.
        _calibrated(detector, pooled.out_of_distribution),
        _neighbours(stage, learned),
        monitoring_reference(stage.cached, learned, [pooled], calibration, recipe.seed),
        evaluation,
        sum(one.steps for one in [*fits, final]),
        {"train": len(cohort), "out_of_fold": len(pooled)},
        fitted.choice,
    )


def _rows_of_folds(stage: Stage, parts: Mapping[str, Fold], number: int, order: Predictions) -> dict[Row, npt.NDArray]:
    """Calibrated answers of models of the folds that were drawn as number `number`, in the order of `order`."""
    recipe = stage.recipe
    _log.info("folds drawn anew (%d of %d)", number, recipe.evaluation.repeats)
    _, _, out_of_fold = _fitted_folds(stage, parts, f"repeat_{number}/")
    pooled = Predictions.concatenate(out_of_fold)
    rows = rows_of_folds(
        out_of_fold,
        stage.cohort.findings,
        recipe.calibration,
        baselines=_baselines(stage, list(parts.values()), pooled),
        seed=recipe.seed,
    )
    place = {study: row for row, study in enumerate(pooled.study_ids.tolist())}
    # A study that no fold's model can read in one draw is left out of it.
    found = [place.get(study, len(pooled)) for study in order.study_ids.tolist()]
    return {row: np.vstack([values, np.full((1, values.shape[1]), np.nan)])[found] for row, values in rows.items()}


def _fitted_folds(
    stage: Stage, parts: Mapping[str, Fold], below: str = ""
) -> tuple[list[Fit], list[OutOfDistributionDetector | None], list[Predictions]]:
    """The model of every fold, its detector, and its predictions of the fold; `below` begins the fits' names."""
    fits, detectors, out_of_fold = [], [], []
    for number, (name, (train, test)) in enumerate(parts.items(), start=1):
        _log.info("%s (%d of %d)", name, number, len(parts))
        inner, validation = inner_split(stage.cohort, train, stage.recipe)
        fits.append(_fit(stage, inner, validation, f"{below}fold_{number}").fit)
        detectors.append(_learned(stage, fits[-1], inner)[1])
        # Features of models with different fusions could not be put together, and nobody reads them.
        out_of_fold.append(replace(_predict(stage, fits[-1], test, detectors[-1]), features={}))
    return fits, detectors, out_of_fold


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way to evaluate: `plan` says who is where, `run` trains and evaluates so."""

    plan: Callable[[Cohort, Recipe], Plan]
    run: Callable[[Stage, Plan], Outcome]


PROTOCOLS = {
    "split": Protocol(_plan_splits, _held_out_split),
    "cross_validation": Protocol(_plan_folds, _out_of_fold),
    "leave_one_source_out": Protocol(_plan_sources, _out_of_fold),
}


def inner_split(cohort: Cohort, rows: Indices, recipe: Recipe) -> tuple[Indices, Indices | None]:
    """Training and validation rows of a fold's training part, in the recipe's proportion, by patient."""
    if recipe.splits.validation == 0:
        return rows, None
    wanted = np.array([recipe.splits.train, recipe.splits.validation])
    generator = np.random.default_rng(recipe.seed)
    part = stratified_parts(cohort.labels[rows], cohort.patient_ids[rows], wanted / wanted.sum(), generator)
    return rows[part == 0], rows[part == 1]


def _fit(stage: Stage, rows: Indices, validation: Indices | None, name: str, epochs: int | None = None) -> FittedModel:
    prefix = [] if name == "fit" else [name]

    def sink(part: str) -> MetricSink:
        return stage.run.prefixed("/".join([*prefix, *([part] if part else [])]))

    return fit_model(
        stage.cached,
        stage.recipe,
        rows,
        validation,
        stage.folder / name,
        sink,
        epochs=epochs,
        progress=stage.progress,
        start=stage.start,
    )


def _learned(stage: Stage, trained: Fit, rows: Indices) -> tuple[Predictions, OutOfDistributionDetector | None]:
    return predict_training(trained.model, trained.preprocessing, stage.cached, rows, stage.recipe)


def _predict(stage: Stage, trained: Fit, rows: Indices, detector: OutOfDistributionDetector | None) -> Predictions:
    return predict(trained.model, trained.preprocessing, stage.cached, rows, stage.recipe, detector)


def _calibrated(detector: OutOfDistributionDetector | None, scores: Scores) -> OutOfDistributionDetector | None:
    return None if detector is None else detector.calibrated(scores)


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
    found = baseline_predictions(stage.cached, pairs, inputs=stage.recipe.scope, seed=stage.recipe.seed)
    place = {record.study_id: row for row, record in enumerate(stage.cohort.records)}
    order = [place[study] for study in predictions.study_ids.tolist()]
    return {name: probabilities[order] for name, probabilities in found.items()}
