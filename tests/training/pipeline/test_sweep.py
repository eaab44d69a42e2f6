"""A search over declared ranges."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from filelock import FileLock

import training.pipeline.sweep as sweeping
from consilium.artifacts.mlflow_store import open_store
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import RecipeError, TrainingError
from training.cohorts.phantom.write import write_phantom
from training.fitting.fit import Fit
from training.pipeline.sweep import changed, sweep
from training.recipes import find_recipe

RANGES = {
    "training.learning_rate": {"low": 0.0001, "high": 0.01, "log": True},
    "fusion.depth": {"low": 1, "high": 3},
    "fusion.name": {"choices": ["concat", "late"]},
}


def _recipe(**section: object) -> Recipe:
    return changed(
        find_recipe("phantom-tiny"), {"training.epochs": 1, "sweep": {"trials": 2, "ranges": RANGES} | section}
    )


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sweep") / "phantom"
    write_phantom(root, 160, seed=3, size=64, workers=1)
    return root


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")


def test_trials_are_trained_tracked_and_ranked(cohort: Path):
    found = sweep(_recipe(), cohort)
    assert len(found.trials) == 2
    assert found.trials["validation_loss"].is_monotonic_increasing
    assert found.settings == {key: found.trials[key][0] for key in RANGES}
    assert found.best.training.learning_rate == found.settings["training.learning_rate"]
    assert 1 <= found.best.fusion.depth <= 3
    client = open_store()
    experiment = client.get_run(found.run_id).info.experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{found.run_id}'")
    assert [child.info.status for child in children] == ["FINISHED"] * 2
    assert {child.data.params["fusion.name"] for child in children} <= {"concat", "late"}


def test_an_interrupted_sweep_goes_on_with_the_trial_that_was_cut_off(cohort: Path, monkeypatch: pytest.MonkeyPatch):
    fits = []

    def fit(cached, recipe, *rest, **options) -> Fit:
        fits.append((recipe.training.learning_rate, recipe.fusion.depth, recipe.fusion.name))
        if len(fits) == 2:
            raise KeyboardInterrupt
        return Fit(None, None, 1, 1, float(len(fits)))  # type: ignore[arg-type]

    monkeypatch.setattr(sweeping, "fit_with_teachers", fit)
    with pytest.raises(KeyboardInterrupt):
        sweep(_recipe(), cohort)
    found = sweep(_recipe(), cohort)
    assert len(fits) == 3
    assert fits[2] == fits[1] != fits[0]
    assert found.trials["validation_loss"].tolist() == [1.0, 3.0]
    states = [
        run.info.status for run in open_store().search_runs([open_store().get_run(found.run_id).info.experiment_id])
    ]
    assert sorted(states) == ["FINISHED", "FINISHED", "FINISHED", "KILLED"]


def test_a_finished_sweep_is_lengthened_and_not_repeated(cohort: Path, monkeypatch: pytest.MonkeyPatch):
    fits = []
    monkeypatch.setattr(
        sweeping, "fit_with_teachers", lambda *_, **__: fits.append(1) or Fit(None, None, 1, 1, float(len(fits)))
    )
    sweep(_recipe(), cohort)
    sweep(_recipe(), cohort)
    assert len(fits) == 2
    assert len(sweep(_recipe(), cohort, trials=3).trials) == 3


def _proposals(found: sweeping.SweepResult) -> list[tuple]:
    return [tuple(trial[key] for key in RANGES) for trial in found.trials.sort_values("trial").to_dict("records")]


def test_a_sweep_that_is_lengthened_goes_on_in_its_sequence(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fit(cached, recipe, *_, **__) -> Fit:
        return Fit(None, None, 1, 1, recipe.training.learning_rate)  # type: ignore[arg-type]

    monkeypatch.setattr(sweeping, "fit_with_teachers", fit)
    parts = [_proposals(sweep(_recipe(), cohort, trials=trials)) for trials in (1, 2, 5)]
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path / "another"))
    whole = _proposals(sweep(_recipe(), cohort, trials=5))
    assert parts == [whole[:1], whole[:2], whole]
    assert len(set(whole)) == 5


def test_after_an_interrupt_it_proposes_what_it_would_have(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fits = []

    def fit(cached, recipe, *_, **__) -> Fit:
        fits.append(recipe.training.learning_rate)
        if len(fits) in (2, 3):
            raise KeyboardInterrupt
        return Fit(None, None, 1, 1, recipe.training.learning_rate)  # type: ignore[arg-type]

    monkeypatch.setattr(sweeping, "fit_with_teachers", fit)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            sweep(_recipe(), cohort, trials=4)
    found = _proposals(sweep(_recipe(), cohort, trials=4))
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path / "another"))
    assert found == _proposals(sweep(_recipe(), cohort, trials=4))


def test_the_run_of_a_trial_that_was_killed_is_closed(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A killed process closes nothing: neither its run nor its trial."""
    monkeypatch.setattr(sweeping, "fit_with_teachers", lambda *_, **__: Fit(None, None, 1, 1, 0.5))
    found = sweep(_recipe(), cohort)
    client = open_store()
    experiment = client.get_run(found.run_id).info.experiment_id
    killed = client.create_run(experiment, tags={"mlflow.parentRunId": found.run_id}).info.run_id
    other = client.create_run(experiment).info.run_id
    sweep(_recipe(), cohort, trials=3)
    assert client.get_run(killed).info.status == "KILLED"
    assert client.get_run(other).info.status == "RUNNING"


def test_two_at_once_are_refused(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sweeping, "fit_with_teachers", lambda *_, **__: Fit(None, None, 1, 1, 0.5))
    sweep(_recipe(), cohort)
    [folder] = (tmp_path / "home" / "sweeps").iterdir()
    with FileLock(folder / ".lock"), pytest.raises(TrainingError, match="under way in another process"):
        sweep(_recipe(), cohort, trials=3)


def test_a_sweep_without_a_finished_trial_says_so(cohort: Path, monkeypatch: pytest.MonkeyPatch):
    def fit(*_, **__) -> Fit:
        raise TrainingError("the loss is nan")

    monkeypatch.setattr(sweeping, "fit_with_teachers", fit)
    with pytest.raises(TrainingError, match="none of 2 trials could be finished"):
        sweep(_recipe(), cohort)


def test_hopeless_trials_are_given_up(cohort: Path, monkeypatch: pytest.MonkeyPatch):
    begun = []

    def fit(cached, recipe, train, validation, folder, sink, **options) -> Fit:
        begun.append(1)
        loss = 0.5 if len(begun) <= 5 else 9.0
        for epoch in range(4):
            sink("").log({"validation_loss": loss}, epoch)
        return Fit(None, None, 1, 1, loss)  # type: ignore[arg-type]

    monkeypatch.setattr(sweeping, "fit_with_teachers", fit)
    found = sweep(_recipe(), cohort, trials=6)
    assert found.trials["state"].tolist().count("pruned") == 1


@pytest.mark.parametrize(
    ("section", "error", "match"),
    [
        ({"ranges": {}}, RecipeError, "must name a range"),
        ({"ranges": {"fusion.name": {"choices": ["concat", "stacked"]}}}, RecipeError, "validation losses of epochs"),
        ({"ranges": {"splits.train": {"low": 0.1, "high": 0.9}}}, TrainingError, "splits.train"),
        ({"ranges": {"training.learning_rat": {"low": 0.1, "high": 0.9}}}, RecipeError, "learning_rate"),
    ],
)
def test_ranges_that_cannot_be_searched_are_refused(cohort: Path, section, error, match):
    with pytest.raises(error, match=match):
        sweep(_recipe(**section), cohort)


def test_the_study_is_read_back_by_optuna_itself(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sweeping, "fit_with_teachers", lambda *_, **__: Fit(None, None, 1, 1, 0.25))
    sweep(_recipe(), cohort)
    [folder] = (tmp_path / "home" / "sweeps").iterdir()
    study = optuna.load_study(study_name="phantom-tiny", storage=f"sqlite:///{folder / 'optuna.db'}")
    assert study.best_value == 0.25
    assert json.loads((folder / "sweep.json").read_text())["run_id"]
