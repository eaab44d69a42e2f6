"""Evaluate a registered model on a cohort: the same tables that its training made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.artifacts.artifact import Artifact, load_artifact
from consilium.artifacts.model_registry import resolve
from consilium.calibration import Calibration
from consilium.configuration.recipe import CohortRecipe, Recipe
from consilium.domain.errors import InputError, TrainingError
from consilium.system.threads import limit_threads
from training.cohorts import cohort_kind, load_cohort
from training.cohorts.cohort import Cohort
from training.cohorts.splits import split_cohort
from training.data.cache_folders import file_cache_folder
from training.data.cached_cohort import cache_cohort
from training.evaluation.evaluate import evaluate
from training.evaluation.predict import predict
from training.evaluation.prevalence import prevalence_table
from training.evaluation.results import Evaluation, ScoredStudies
from training.pipeline.extra_tables import Predicted, tables_of_answers

_log = logging.getLogger(__name__)


def evaluate_model(
    source: str,
    cohort_root: Path,
    *,
    cohort: CohortRecipe | None = None,
    bootstrap: int | None = None,
    prevalence: Mapping[str, float] | None = None,
    advance: Callable[[], None] | None = None,
) -> Evaluation:
    """Evaluate the model `source` on the studies in `cohort_root` that it has not learned from.

    On the cohort of its own training, and on one that fixes its splits (it may be an extended edition of that cohort),
    these are the test split; on any other, all studies with a known label.

    Parameters
    ----------
    source : str
        Model folder, ``models:/name@alias`` or ``models:/name/version``.
    cohort : CohortRecipe or None
        Kind and task of the cohort; None: those of the model's recipe.
    bootstrap : int or None
        Replicates; None: the recipe's.
    prevalence : mapping of finding's name to float, or None
        What is known of the cohort's place; the model is adjusted to it, and the table ``prevalence`` has its
        answers beside those of a model that was not.
    advance : callable or None
        Called after each image.

    Raises
    ------
    InputError
        The cohort has other findings than the model, or a prevalence cannot be.
    TrainingError
        The model has learned from every study of the cohort, can read none of it, or no study is left.
    """
    limit_threads()
    artifact = load_artifact(resolve(source).folder)
    recipe = artifact.recipe
    calibration = artifact.calibration.at_prevalence(prevalence) if prevalence else artifact.calibration
    found = _load(cohort or recipe.cohort, cohort_root, recipe)
    if found.findings.names != artifact.findings.names:
        rule = f"must be the model's: {', '.join(artifact.findings.names)}"
        raise InputError("cohort.findings", ", ".join(found.findings.names), rule)
    found = found.answering(artifact.findings.targets)
    rows = _unseen(artifact, found)
    if not len(rows):
        raise TrainingError("the cohort has no study to evaluate on: no test split, or no known label")
    _log.info("evaluating on %d of %d studies", len(rows), len(found))
    cached = cache_cohort(found, recipe, file_cache_folder(), advance)
    predictions = predict(artifact.model, artifact.preprocessing, cached, rows, recipe, artifact.detector)
    replicates = bootstrap or recipe.evaluation.bootstrap

    def further(scored: ScoredStudies, _: Calibration) -> dict[str, pd.DataFrame]:
        tables = {}
        if prevalence:
            tables["prevalence"] = prevalence_table(
                predictions, artifact.calibration, artifact.findings, prevalence, bootstrap=replicates, seed=recipe.seed
            )
        predicted = Predicted(predictions, calibration, artifact.detector, artifact.preprocessing, cached)
        return tables | tables_of_answers(scored, predicted, recipe, bootstrap=replicates)

    return evaluate(
        predictions,
        calibration,
        artifact.findings,
        oracle=cohort_kind((cohort or recipe.cohort).kind).load_oracle(cohort_root),
        further=further,
        bootstrap=replicates,
        seed=recipe.seed,
    )


def _load(chosen: CohortRecipe, root: Path, recipe: Recipe) -> Cohort:
    masks = recipe.masks_identifiers
    return load_cohort(chosen.kind, root, chosen.options, mask_notes=masks)


def _unseen(artifact: Artifact, cohort: Cohort) -> npt.NDArray[np.int64]:
    recipe: Recipe = artifact.recipe
    if artifact.details["cohort"]["digest"] == cohort.digest:
        if recipe.evaluation.protocol != "split":
            raise TrainingError(
                "this model was trained on every study of this cohort; its out-of-fold evaluation is in the MLflow run "
                f"{artifact.details['run_id']}"
            )
        return split_cohort(cohort, recipe.splits.model_dump(), recipe.seed)["test"]
    known = np.isfinite(cohort.labels).any(axis=1)
    splits = np.array([record.split or "" for record in cohort.records])
    return np.flatnonzero(known & (splits == "test")) if splits.any() else np.flatnonzero(known)
