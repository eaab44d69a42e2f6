"""Tables beside the metrics: out-of-distribution inputs, explanations, referral, subgroups."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.calibration import Calibration
from consilium.configuration.recipe import Recipe
from consilium.preprocessing.collate import Preprocessing
from consilium.referral.out_of_distribution import OutOfDistributionDetector
from training.cohorts import cohort_kind
from training.data.cached_cohort import CachedCohort
from training.evaluation.faithfulness import measure_faithfulness
from training.evaluation.out_of_distribution.detection import evaluate_out_of_distribution
from training.evaluation.predictions import Predictions
from training.evaluation.results import ScoredStudies
from training.evaluation.selective import Doubts, doubtful_records, prediction_sets, selective_tables
from training.evaluation.subgroups import study_groups, subgroup_tables
from training.fitting.fit import Fit
from training.pipeline.context import Stage
from training.runtime.progress import progress_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class TestedModel:
    """A model with all that ships with it, and studies that none of it has learned from.

    Attributes
    ----------
    detector : OutOfDistributionDetector or None
        Calibrated.
    rows : int [n]
        Positions in the cohort of those studies.
    predictions : Predictions
        Of the studies that the evaluation is about.
    """

    fit: Fit
    calibration: Calibration
    detector: OutOfDistributionDetector | None
    rows: npt.NDArray[np.int64]
    predictions: Predictions


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """A model's predictions of the studies of an evaluation, and what they were made with.

    Attributes
    ----------
    detector : OutOfDistributionDetector or None
        Calibrated.
    cached : CachedCohort
        Holds the studies.
    """

    predictions: Predictions
    calibration: Calibration
    detector: OutOfDistributionDetector | None
    preprocessing: Preprocessing
    cached: CachedCohort


def tables_of_answers(
    scored: ScoredStudies, predicted: Predicted, recipe: Recipe, *, bootstrap: int
) -> dict[str, pd.DataFrame]:
    """The tables that need no further answers: referral, and the figures by subgroup."""
    seed = recipe.seed
    subgroups = _subgroups(scored, predicted.cached, bootstrap, seed)
    doubts = _doubts(predicted)
    present = predicted.predictions.present
    return subgroups | selective_tables(scored, recipe.refer, doubts, present, bootstrap=bootstrap, seed=seed)


def further_tables(stage: Stage, tested: TestedModel, scored: ScoredStudies) -> dict[str, pd.DataFrame]:
    """Every further table that the recipe asks for, by name."""
    recipe = stage.recipe
    predicted = Predicted(
        tested.predictions, tested.calibration, tested.detector, tested.fit.preprocessing, stage.cached
    )
    tables = tables_of_answers(scored, predicted, recipe, bootstrap=recipe.evaluation.bootstrap)
    if tested.detector is not None and recipe.evaluation.out_of_distribution:
        _log.info("out-of-distribution inputs")
        tables["out_of_distribution"] = evaluate_out_of_distribution(
            tested.fit.model, tested.fit.preprocessing, tested.detector, stage.cached, tested.rows, recipe
        )
    if recipe.evaluation.faithfulness:
        tables["faithfulness"] = _faithfulness(stage, tested)
    return tables


def _faithfulness(stage: Stage, tested: TestedModel) -> pd.DataFrame:
    recipe, studies = stage.recipe, min(stage.recipe.evaluation.faithfulness, len(tested.rows))
    with progress_of("explanations", studies, drawn=stage.progress) as advance:
        return measure_faithfulness(
            tested.fit.model,
            tested.fit.preprocessing,
            tested.calibration,
            stage.cached,
            tested.rows,
            stage.cohort.findings,
            studies=studies,
            seed=recipe.seed,
            truth=cohort_kind(recipe.cohort.kind).load_truth(stage.cohort.root),
            advance=advance,
        )


def groups_of(scored: ScoredStudies, cached: CachedCohort) -> dict[str, npt.NDArray[np.str_]]:
    """The groups that the scored studies of `cached` fall into, [N] each by kind."""
    records = cached.cohort.records
    place = {record.study_id: row for row, record in enumerate(records)}
    rows = [place[study] for study in scored.study_ids.tolist()]
    return study_groups([records[row] for row in rows], [cached.studies[row] for row in rows], cached.cohort.variables)


def _subgroups(scored: ScoredStudies, cached: CachedCohort, bootstrap: int, seed: int) -> dict[str, pd.DataFrame]:
    tables = subgroup_tables(scored, groups_of(scored, cached), bootstrap=bootstrap, seed=seed)
    return {name: table for name, table in tables.items() if len(table)}


def _doubts(predicted: Predicted) -> Doubts:
    predictions = predicted.predictions
    return Doubts(
        prediction_sets(predictions, predicted.calibration),
        {} if predicted.detector is None else predicted.detector.p_values(predictions.out_of_distribution),
        doubtful_records(predicted.cached, predicted.preprocessing, predictions.study_ids),
    )
