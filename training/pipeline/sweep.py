"""A search over a recipe's declared ranges: Optuna proposes, the validation loss decides, MLflow records every trial.

Only the training and validation splits are touched: whatever is chosen, the calibration and test splits took no part in
it. Optuna keeps its study in a SQLite file and every trial its checkpoints, so that an interrupted sweep goes on, with
the trial that it was in the middle of.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from filelock import FileLock, Timeout
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, Trial, TrialState

from consilium.configuration.recipe import Range, Recipe
from consilium.domain.errors import RecipeError, TrainingError
from consilium.network.fusion import TRAINED_FUSIONS
from consilium.system.durable import replace_json
from consilium.system.environment import home_folder
from consilium.system.threads import limit_threads
from training.cohorts import load_cohort
from training.cohorts.cohort import Cohort
from training.cohorts.splits import split_cohort
from training.data.cache_folders import file_cache_folder
from training.data.cached_cohort import cache_cohort
from training.fitting.scheduled_module import VALIDATION_LOSS
from training.fitting.teachers import fit_with_teachers
from training.pipeline.named_weights import resolve_weights
from training.runtime.interrupts import interrupted_once
from training.runtime.tracking import MetricSink, TrackedRun

_log = logging.getLogger(__name__)

_FIXED = ("name", "seed", "cohort", "splits", "evaluation", "sweep", "inputs", "modalities")
"""Keys that decide what is measured, or on what: results under different ones cannot be compared."""
_STATE, _STUDY = "sweep.json", "optuna.db"
_TRIES = 3
"""How often a trial that was cut off is taken up again."""


@dataclass(frozen=True, slots=True, eq=False)
class SweepResult:
    """What a sweep found.

    Attributes
    ----------
    best : Recipe
        With the values that gave the lowest validation loss.
    settings : dict
        These values, by key.
    trials : DataFrame
        One row a trial: ``trial``, ``state``, ``validation_loss`` and a column for each key; best first.
    run_id : str
        MLflow run whose children the trials are.
    """

    best: Recipe
    settings: dict[str, Any]
    trials: pd.DataFrame
    run_id: str


def sweep(recipe: Recipe, cohort_root: Path, *, trials: int | None = None, progress: bool = False) -> SweepResult:
    """Train `recipe` with values from its ``sweep.ranges`` until so many trials are done.

    Trials whose validation loss lies above the median of the others at the same epoch are given up, and so are those
    whose training fails. What an interrupted sweep of the same recipe and cohort has done counts.

    Parameters
    ----------
    trials : int or None
        Finished or given-up trials altogether; None: the recipe's ``sweep.trials``.

    Raises
    ------
    TrainingError
        The recipe declares a range of a key that decides what is measured, the cohort has no validation split, the
        sweep is under way in another process, or no trial could be finished.
    RecipeError
        There is no range, or one gives a value that its key does not take.
    """
    _require_ranges(recipe)
    limit_threads(recipe.training.threads)
    chosen = recipe.cohort
    masks = recipe.masks_identifiers
    cohort = load_cohort(chosen.kind, cohort_root, chosen.options, mask_notes=masks)
    cohort = cohort if recipe.objectives.targets else cohort.answering(())
    folder = _folder(recipe, cohort)
    try:
        with FileLock(folder / ".lock", timeout=0), interrupted_once():
            return _searched(_Search(recipe, cohort, folder, progress), trials or recipe.sweep.trials)
    except Timeout:
        raise TrainingError("this sweep is under way in another process") from None
    except StorageInternalError as error:
        cause = str(error.__cause__ or error).strip().partition("\n")[0]
        raise TrainingError(f"the trials cannot be kept in {folder.name}: {cause}") from error
    except KeyboardInterrupt:
        _log.warning("interrupted; the same command goes on with the trial that was cut off")
        raise


def _searched(search: _Search, wanted: int) -> SweepResult:
    recipe = search.recipe
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        storage=f"sqlite:///{search.folder / _STUDY}",
        study_name=recipe.name,
        load_if_exists=True,
        direction="minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
    )
    _take_up(study)
    with search.tracked() as parent:
        while _done(study) < wanted:
            study.sampler = _sampler(recipe, study)
            study.optimize(search.objective, n_trials=1, catch=())
            _log.info("%d of %d trials, best validation loss %s", _done(study), wanted, _best_loss(study))
        if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            raise TrainingError(f"none of {_done(study)} trials could be finished; the reasons are in the log")
        result = _result(recipe, study, parent.run_id)
        parent.log({f"best/{VALIDATION_LOSS}": float(study.best_value)}, 0)
    return result


def _sampler(recipe: Recipe, study: optuna.Study) -> optuna.samplers.BaseSampler:
    """What proposes the next trial: the same, whether the sweep was interrupted before it, lengthened or neither.

    A sampler that is seeded once would begin its sequence again in each process, and propose what was tried before.
    """
    trials = study.get_trials(deepcopy=False)
    proposed = sum("fixed_params" not in trial.system_attrs for trial in trials)
    seed = np.random.SeedSequence([recipe.seed, proposed]).generate_state(1)[0]
    return optuna.samplers.TPESampler(seed=int(seed))


def _require_ranges(recipe: Recipe) -> None:
    if not recipe.sweep.ranges:
        raise RecipeError("sweep.ranges", {}, "must name a range, such as that of fusion.depth")
    for key in recipe.sweep.ranges:
        if key.split(".")[0] in _FIXED:
            raise TrainingError(f"sweep.ranges: {key} decides what is measured, so trials could not be compared")
    for name in recipe.sweep.ranges.get("fusion.name", Range(choices=(recipe.fusion.name,))).choices:
        if name not in TRAINED_FUSIONS:
            rule = f"must be one of {', '.join(TRAINED_FUSIONS)}: a sweep compares validation losses of epochs"
            raise RecipeError("fusion.name", name, rule)
    if recipe.splits.validation == 0:
        raise TrainingError("a sweep needs a validation split; splits.validation is 0")


def _folder(recipe: Recipe, cohort: Cohort) -> Path:
    without_length = recipe.model_copy(update={"sweep": recipe.sweep.model_copy(update={"trials": 1})})
    digest = hashlib.sha256(f"{without_length.to_yaml()}\n{cohort.digest}".encode()).hexdigest()
    folder = home_folder() / "sweeps" / f"{recipe.name}-{digest[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _take_up(study: optuna.Study) -> None:
    """Queue the trials that a kill or an interrupt has cut off, with the values that they had."""
    known = set(study.user_attrs.get("taken_up", []))
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.FAIL)):
        if trial.state is TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        tries = int(trial.user_attrs.get("tries", 1))
        if trial.number not in known and trial.params and tries < _TRIES:
            study.enqueue_trial(trial.params, user_attrs={"tries": tries + 1})
        known.add(trial.number)
    study.set_user_attr("taken_up", sorted(known))


class _Search:
    """What every trial of one sweep shares."""

    def __init__(self, recipe: Recipe, cohort: Cohort, folder: Path, progress: bool) -> None:
        self.folder = folder
        self.recipe = recipe
        self._cohort = cohort
        self._progress = progress
        self._parts = split_cohort(cohort, recipe.splits.model_dump(), recipe.seed)
        self._parent = ""

    def tracked(self) -> TrackedRun:
        """The MLflow run above the trials: the one that an interrupted sweep began, or a new one."""
        file = self.folder / _STATE
        if file.exists():
            run = TrackedRun.resume(json.loads(file.read_text(encoding="utf-8"))["run_id"])
            TrackedRun.close_children(run.run_id)
        else:
            run = TrackedRun.start(self.recipe, kind="sweep")
            replace_json(file, {"run_id": run.run_id})
            run.log_recipe(self.recipe)
        self._parent = run.run_id
        return run

    def objective(self, trial: Trial) -> float:
        """Validation loss of the recipe with the values that `trial` proposes."""
        settings = {key: _propose(trial, key, choice) for key, choice in self.recipe.sweep.ranges.items()}
        recipe = changed(self.recipe, settings)
        name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        with TrackedRun.start(recipe, kind=f"trial {trial.number}", parent=self._parent) as run:
            run.log_recipe(recipe)
            starts = resolve_weights(recipe)
            cached = cache_cohort(self._cohort, recipe, file_cache_folder(), starts=starts)
            train, validation = self._parts["train"], self._parts["validation"]
            pruned, folder, progress = _Pruned(run, trial), self.folder / name, self._progress

            def sink(part: str, run: TrackedRun = run) -> MetricSink:
                return run.prefixed(part) if part else pruned

            try:
                found = fit_with_teachers(cached, recipe, train, validation, folder, sink, progress=progress)
            except TrainingError as error:
                _log.warning("trial %d is given up: %s", trial.number, error)
                raise optuna.TrialPruned from error
        assert found.validation_loss is not None
        return found.validation_loss


class _Pruned:
    """Hands metrics on, reports each epoch's validation loss to Optuna, and prunes a hopeless trial."""

    def __init__(self, sink: MetricSink, trial: Trial) -> None:
        self._sink = sink
        self._trial = trial
        self._epoch = len(trial.storage.get_trial(trial._trial_id).intermediate_values)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._sink.log(metrics, step)
        if VALIDATION_LOSS in metrics:
            self._trial.report(float(metrics[VALIDATION_LOSS]), self._epoch)
            self._epoch += 1
            if self._trial.should_prune():
                raise optuna.TrialPruned

    def flush(self) -> None:
        self._sink.flush()


def _propose(trial: Trial, key: str, choice: Range) -> Any:
    if choice.choices:
        return trial.suggest_categorical(key, choice.choices)
    assert choice.low is not None
    assert choice.high is not None
    if float(choice.low).is_integer() and float(choice.high).is_integer() and choice.high - choice.low >= 1:
        return trial.suggest_int(key, int(choice.low), int(choice.high), log=choice.log)
    return trial.suggest_float(key, choice.low, choice.high, log=choice.log)


def changed(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """`recipe` with other values, checked as ever; keys as in ``training.learning_rate``."""
    data = recipe.model_dump(mode="json")
    for key, value in settings.items():
        *parents, last = key.split(".")
        place = data
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return Recipe.from_mapping(data)


def _done(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def _loss(trial: FrozenTrial) -> float:
    return float("inf") if trial.value is None else trial.value


def _best_loss(study: optuna.Study) -> str:
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return f"{study.best_value:.4f}" if done else "not known yet"


def _result(recipe: Recipe, study: optuna.Study, run_id: str) -> SweepResult:
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    lines = [
        {"trial": trial.number, "state": trial.state.name.lower(), VALIDATION_LOSS: trial.value, **trial.params}
        for trial in sorted(done, key=_loss)
    ]
    settings = dict(study.best_params)
    best = changed(recipe, settings).model_copy(update={"sweep": type(recipe.sweep)()})
    return SweepResult(best, settings, pd.DataFrame(lines), run_id)
