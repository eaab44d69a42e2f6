"""The pipeline, top-down: load → cache → split → fit → calibrate → evaluate → register.

`train` is what the command calls. Each stage can be cut off at any moment: what it finished lies in the run's folder
(`training.run_state`), and `resume` walks the same stages again over what is there.
"""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from consilium import registry
from consilium.artifact import Artifact, save_artifact, verify
from consilium.calibration import Calibration
from consilium.errors import ArtifactError
from consilium.recipe import Recipe
from consilium.threads import limit_threads
from training.baselines import baseline_predictions
from training.cohorts import load_cohort
from training.cohorts.cohort import Cohort
from training.cohorts.phantom.oracle import Oracle, load_oracle
from training.datamodule import CachedCohort, cache_cohort
from training.evaluate import calibrate, evaluate, evaluate_folds, require_no_leak
from training.evaluation import Evaluation
from training.fit import Fit, fit
from training.predict import predict
from training.predictions import Predictions
from training.run_state import RunState, home_folder
from training.splits import Fold, folds, split_cohort, stratified_parts
from training.tracking import TrackedRun, git_commit

Indices = npt.NDArray[np.int64]

_log = logging.getLogger(__name__)

_ARTIFACT = "artifact"
_BASELINE_SIDE = 64
"""Pixels a side of the image that the baselines look at."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainedModel:
    """A model in the registry.

    Attributes
    ----------
    name, version : str
        Of the registered model.
    run_id : str
        MLflow run that made it.
    steps : int
        Optimiser steps, of all fits together.
    folder : Path
        The artifact on this machine.
    """

    name: str
    version: str
    run_id: str
    steps: int
    evaluation: Evaluation
    folder: Path

    @property
    def uri(self) -> str:
        """``models:/consilium-phantom-demo/3``."""
        return f"models:/{self.name}/{self.version}"


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a protocol ends in: the model to ship, how it is calibrated and how it did.

    `studies` counts those of each part, under the part's name.
    """

    fit: Fit
    calibration: Calibration
    evaluation: Evaluation
    steps: int
    studies: dict[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """What every stage of one training shares."""

    recipe: Recipe
    cached: CachedCohort
    oracle: Oracle | None
    folder: Path
    run: TrackedRun
    progress: bool

    @property
    def cohort(self) -> Cohort:
        return self.cached.cohort


def train(
    recipe: Recipe, cohort_root: Path, *, promote: bool = False, resume: bool = False, progress: bool | None = None
) -> TrainedModel:
    """Train `recipe` on the cohort in `cohort_root` and register the model with the alias ``challenger``.

    Parameters
    ----------
    promote : bool
        Also make it the champion.
    resume : bool
        Go on with an interrupted training of the same recipe and cohort, in the same MLflow run.
    progress : bool or None
        Draw progress bars; None: where standard error is a terminal. Otherwise lines are logged.

    Raises
    ------
    CohortError, InputError
        The cohort cannot be read.
    TrainingError
        It cannot be learned from, what was interrupted is another training, or the model is better than possible.
    KeyboardInterrupt
        After everything was left so that `resume` can go on.
    """
    progress = sys.stderr.isatty() if progress is None else progress
    limit_threads(recipe.training.threads)
    cohort = _load(recipe, cohort_root)
    oracle = load_oracle(cohort_root) if recipe.cohort.kind == "phantom" else None
    with RunState(recipe, cohort, resume=resume) as state, tracked(recipe, state) as run:
        cached = cache_images(cohort, recipe, progress)
        stage = Stage(recipe, cached, oracle, state.folder, run, progress)
        outcome = _PROTOCOLS[recipe.evaluation.protocol](stage)
        _log_outcome(stage, outcome)
        require_no_leak(outcome.evaluation)
        folder = _save(stage, outcome)
        version = registry.register(folder, recipe, run.run_id, _tags(cohort))
        state.registered(version)
        if promote:
            _promote(recipe.registered_name, version)
    _log.info("registered as %s version %s", recipe.registered_name, version)
    return TrainedModel(recipe.registered_name, version, run.run_id, outcome.steps, outcome.evaluation, folder)


# --- load and cache --------------------------------------------------------------------------------------------------


def _load(recipe: Recipe, root: Path) -> Cohort:
    chosen = recipe.cohort
    cohort = load_cohort(chosen.kind, root, chosen.task, chosen.mask_label_words, chosen.strict)
    _log.info("cohort %s: %d studies, %d patients", cohort.name, len(cohort), len(set(cohort.patient_ids.tolist())))
    return cohort


def cache_images(cohort: Cohort, recipe: Recipe, progress: bool) -> CachedCohort:
    """`cache_cohort` in the home folder, with its progress."""
    images = sum(len(record.images) for record in cohort.records)
    with _bar("images", images, progress) as advance:
        cached = cache_cohort(cohort, recipe, home_folder() / "cache" / "images", advance)
    _log.info("images: %d prepared, %d refused", images - len(cached.refused), len(cached.refused))
    return cached


@contextmanager
def _bar(what: str, total: int, drawn: bool) -> Iterator[Callable[[], None]]:
    """Something to call after each of `total` items: moves a bar, or logs a line every tenth of the way."""
    if not drawn:
        done = 0

        def count() -> None:
            nonlocal done
            done += 1
            if done == total or done % max(1, total // 10) == 0:
                _log.info("%s: %d of %d", what, done, total)

        yield count
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


# --- protocols -------------------------------------------------------------------------------------------------------


def _held_out_split(stage: Stage) -> Outcome:
    """One model, judged on studies that nothing of it has seen."""
    recipe, cohort = stage.recipe, stage.cohort
    parts = split_cohort(cohort, recipe.splits.model_dump(), recipe.seed)
    names = np.empty(len(cohort), dtype=object)
    for name, rows in parts.items():
        names[rows] = name
    stage.run.log_cohort(cohort, names)
    trained = _fit(stage, parts["train"], parts["validation"], "fit")
    held_out = _predict(stage, trained, parts["calibration"])
    tested = _predict(stage, trained, parts["test"])
    calibration = calibrate(held_out, cohort.findings, **_judging(recipe, with_target=True))
    seen = np.sort(np.concatenate([parts["train"], parts["validation"]]))
    evaluation = evaluate(
        tested,
        calibration,
        cohort.findings,
        oracle=stage.oracle,
        baselines=_baselines(stage, [(seen, parts["test"])], tested),
        **_judging(recipe),
    )
    return Outcome(trained, calibration, evaluation, trained.steps, {name: len(rows) for name, rows in parts.items()})


def _cross_validation(stage: Stage) -> Outcome:
    """Out-of-fold predictions of patient-grouped folds, then one model of all studies, calibrated on them.

    Each fold's training part gives up a share of its patients to find the number of epochs; the last model takes the
    folds' mean. A recipe with no share for validation trains all of its epochs instead: of a small cohort, the few
    patients that could be spared say too little about when to stop.
    """
    recipe, cohort = stage.recipe, stage.cohort
    pairs = folds(cohort, recipe.evaluation.folds, recipe.seed)
    names = np.empty(len(cohort), dtype=object)
    for number, (_, test) in enumerate(pairs, start=1):
        names[test] = f"fold {number}"
    stage.run.log_cohort(cohort, names)
    fits, out_of_fold = [], []
    for number, (train_rows, test) in enumerate(pairs, start=1):
        _log.info("fold %d of %d", number, len(pairs))
        inner, validation = _inner_split(cohort, train_rows, recipe)
        fits.append(_fit(stage, inner, validation, f"fold_{number}"))
        out_of_fold.append(_predict(stage, fits[-1], test))
    pooled = Predictions.concatenate(out_of_fold)
    evaluation, calibration = evaluate_folds(
        out_of_fold,
        cohort.findings,
        oracle=stage.oracle,
        baselines=_baselines(stage, pairs, pooled),
        **_judging(recipe, with_target=True),
    )
    epochs = max(1, round(float(np.mean([one.epochs for one in fits]))))
    _log.info("the model of all studies: %d epochs", epochs)
    final = _fit(stage, np.arange(len(cohort)), None, "final", epochs)
    steps = sum(one.steps for one in [*fits, final])
    return Outcome(final, calibration, evaluation, steps, {"train": len(cohort), "out_of_fold": len(pooled)})


_PROTOCOLS: dict[str, Callable[[Stage], Outcome]] = {
    "split": _held_out_split,
    "cross_validation": _cross_validation,
}


def _inner_split(cohort: Cohort, rows: Indices, recipe: Recipe) -> tuple[Indices, Indices | None]:
    """Training and validation rows of a fold's training part, in the recipe's proportion, by patient."""
    if recipe.splits.validation == 0:
        return rows, None
    wanted = np.array([recipe.splits.train, recipe.splits.validation])
    generator = np.random.default_rng(recipe.seed)
    part = stratified_parts(cohort.labels[rows], cohort.patient_ids[rows], wanted / wanted.sum(), generator)
    return rows[part == 0], rows[part == 1]


def _fit(stage: Stage, rows: Indices, validation: Indices | None, name: str, epochs: int | None = None) -> Fit:
    sink = stage.run.prefixed("" if name == "fit" else name)
    return fit(
        stage.cached,
        stage.recipe,
        rows,
        validation,
        stage.folder / name,
        sink,
        epochs=epochs,
        progress=stage.progress,
    )


def _predict(stage: Stage, trained: Fit, rows: Indices) -> Predictions:
    return predict(trained.model, trained.preprocessing, stage.cached, rows, stage.recipe)


def _judging(recipe: Recipe, *, with_target: bool = False) -> dict[str, Any]:
    target = {"target_sensitivity": recipe.calibration.target_sensitivity} if with_target else {}
    return {"bootstrap": recipe.evaluation.bootstrap, "seed": recipe.seed, **target}


def _baselines(stage: Stage, pairs: Sequence[Fold], predictions: Predictions) -> dict[str, npt.NDArray] | None:
    """Simple methods on the same folds, in the order of `predictions`."""
    if not stage.recipe.evaluation.baselines:
        return None
    _log.info("baselines")
    images, has_image = _small_images(stage.cached)
    found = baseline_predictions(
        stage.cohort, images, has_image, pairs, inputs=stage.recipe.inputs, seed=stage.recipe.seed
    )
    place = {record.study_id: row for row, record in enumerate(stage.cohort.records)}
    order = [place[study] for study in predictions.study_ids.tolist()]
    return {name: probabilities[order] for name, probabilities in found.items()}


def _small_images(cached: CachedCohort) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """The first image of each study, float32 [N, 64, 64] in [0, 1], and which studies have one."""
    images = np.zeros((len(cached.studies), _BASELINE_SIDE, _BASELINE_SIDE), np.float32)
    has_image = np.array([len(study.images) > 0 for study in cached.studies])
    for row in np.flatnonzero(has_image):
        square = cached.cache.square(cached.studies[row].images[0].digest)
        small = Pillow.fromarray(square.astype(np.float32)).resize(images.shape[1:], Pillow.Resampling.BOX)
        images[row] = np.asarray(small) / np.iinfo(np.uint16).max
    return images, has_image


# --- the record ------------------------------------------------------------------------------------------------------


@contextmanager
def tracked(recipe: Recipe, state: RunState) -> Iterator[TrackedRun]:
    """The MLflow run, closed with the right status however the training ends."""
    if state.run_id is None:
        run = TrackedRun.start(recipe)
        state.started(run.run_id)
        run.log_recipe(recipe)
    else:
        run = TrackedRun.resume(state.run_id)
        _log.info("going on with run %s", run.run_id)
    try:
        yield run
    except KeyboardInterrupt:
        run.end("KILLED")
        _log.warning("interrupted; the same command with --resume goes on from the last finished epoch")
        raise
    except BaseException:
        run.end("FAILED")
        raise
    run.end("FINISHED")


def _log_outcome(stage: Stage, outcome: Outcome) -> None:
    metrics = outcome.evaluation.metrics | {
        "steps": float(outcome.steps),
        "epochs": float(outcome.fit.epochs),
        "images_refused": float(len(stage.cached.refused)),
    }
    with tempfile.TemporaryDirectory() as folder:
        outcome.evaluation.save(Path(folder))
        stage.run.log_evaluation(metrics, Path(folder))


def _save(stage: Stage, outcome: Outcome) -> Path:
    """The artifact; one that an interrupted run has saved whole is taken as it is."""
    folder = stage.folder / _ARTIFACT
    if folder.exists():
        try:
            verify(folder)
        except ArtifactError:
            shutil.rmtree(folder)
        else:
            return folder
    artifact = Artifact(
        stage.recipe,
        stage.cohort.findings,
        outcome.fit.preprocessing,
        outcome.fit.model,
        outcome.calibration,
        _details(stage, outcome),
    )
    save_artifact(folder, artifact)
    return folder


def _details(stage: Stage, outcome: Outcome) -> dict[str, Any]:
    cohort = stage.cohort
    return {
        "cohort": {"name": cohort.name, "task": cohort.task, "digest": cohort.digest, "studies": len(cohort)},
        "protocol": stage.recipe.evaluation.protocol,
        "studies": outcome.studies,
        "images_refused": len(stage.cached.refused),
        "epochs": outcome.fit.epochs,
        "steps": outcome.steps,
        "metrics": outcome.evaluation.metrics,
        "git_commit": git_commit(),
        "run_id": stage.run.run_id,
    }


def _tags(cohort: Cohort) -> dict[str, str]:
    tags = {"cohort": cohort.name, "cohort_digest": cohort.digest, "git_commit": git_commit()}
    return {name: value for name, value in tags.items() if value}


def _promote(name: str, version: str) -> None:
    if registry.CHAMPION not in registry.describe(name, version).aliases:
        registry.promote(name, version, reason="promoted by its training run, as asked for")
