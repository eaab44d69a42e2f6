"""What an evaluation holds beside the metrics: strange inputs, explanations, referral, subgroups."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.calibration import Calibration
from consilium.configuration.recipe import Recipe
from consilium.domain.variable_records import own_variables
from consilium.preprocessing.collate import Preprocessing
from consilium.referral.out_of_distribution import NoveltyDetector
from training.cohorts import cohort_kind
from training.data.datamodule import CachedCohort
from training.evaluation.faithfulness import measure_faithfulness
from training.evaluation.out_of_distribution.detection import evaluate_novelty
from training.evaluation.predictions import Predictions
from training.evaluation.results import Evaluation
from training.evaluation.selective import Doubts, doubtful_records, prediction_sets, selective_tables
from training.evaluation.subgroups import study_groups, subgroup_tables
from training.fitting.fit import Fit
from training.pipeline.context import Stage
from training.runtime.progress import progress_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A model with all that ships with it, and studies that none of it has learned from.

    Attributes
    ----------
    novelty : NoveltyDetector or None
        Calibrated.
    rows : int [n]
        Positions in the cohort of those studies.
    predictions : Predictions
        Of the studies that the evaluation is about.
    """

    fit: Fit
    calibration: Calibration
    novelty: NoveltyDetector | None
    rows: npt.NDArray[np.int64]
    predictions: Predictions


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """What a model says of the studies of an evaluation, and what it says that with.

    Attributes
    ----------
    novelty : NoveltyDetector or None
        Calibrated.
    cached : CachedCohort
        Holds the studies.
    """

    predictions: Predictions
    calibration: Calibration
    novelty: NoveltyDetector | None
    preprocessing: Preprocessing
    cached: CachedCohort


def tables_of_answers(
    evaluation: Evaluation, answered: Answered, recipe: Recipe, *, bootstrap: int
) -> dict[str, pd.DataFrame]:
    """The tables that need no further answers: referral, and the figures by subgroup."""
    seed = recipe.seed
    subgroups = _subgroups(evaluation, answered.cached, bootstrap, seed)
    doubts = _doubts(answered)
    present = answered.predictions.present
    return subgroups | selective_tables(evaluation, recipe.refer, doubts, present, bootstrap=bootstrap, seed=seed)


def further_tables(stage: Stage, judged: Judged, evaluation: Evaluation) -> dict[str, pd.DataFrame]:
    """Every further table that the recipe asks for, by name."""
    recipe = stage.recipe
    answered = Answered(judged.predictions, judged.calibration, judged.novelty, judged.fit.preprocessing, stage.cached)
    tables = tables_of_answers(evaluation, answered, recipe, bootstrap=recipe.evaluation.bootstrap)
    if judged.novelty is not None and recipe.evaluation.novelty:
        _log.info("strange inputs")
        tables["novelty"] = evaluate_novelty(
            judged.fit.model, judged.fit.preprocessing, judged.novelty, stage.cached, judged.rows, recipe
        )
    if recipe.evaluation.faithfulness:
        tables["faithfulness"] = _faithfulness(stage, judged)
    return tables


def _faithfulness(stage: Stage, judged: Judged) -> pd.DataFrame:
    recipe, studies = stage.recipe, min(stage.recipe.evaluation.faithfulness, len(judged.rows))
    with progress_of("explanations", studies, drawn=stage.progress) as advance:
        return measure_faithfulness(
            judged.fit.model,
            judged.fit.preprocessing,
            judged.calibration,
            stage.cached,
            judged.rows,
            stage.cohort.findings,
            studies=studies,
            seed=recipe.seed,
            truth=cohort_kind(recipe.cohort.kind).load_truth(stage.cohort.root),
            advance=advance,
        )


def _subgroups(evaluation: Evaluation, cached: CachedCohort, bootstrap: int, seed: int) -> dict[str, pd.DataFrame]:
    records = cached.cohort.records
    place = {record.study_id: row for row, record in enumerate(records)}
    rows = [place[study] for study in evaluation.study_ids.tolist()]
    own = own_variables(cached.cohort.variables)
    groups = study_groups([records[row] for row in rows], [cached.studies[row] for row in rows], own)
    tables = subgroup_tables(evaluation, groups, bootstrap=bootstrap, seed=seed)
    return {name: table for name, table in tables.items() if len(table)}


def _doubts(answered: Answered) -> Doubts:
    said = answered.predictions
    return Doubts(
        prediction_sets(said, answered.calibration),
        {} if answered.novelty is None else answered.novelty.p_values(said.novelty),
        doubtful_records(answered.cached, answered.preprocessing, said.study_ids),
    )
