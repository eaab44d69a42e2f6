from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch

from consilium.domain.errors import TrainingError
from tests.training.cohorts_made import Sink, tiny_cohort, tiny_training_recipe
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.evaluation.predict import predict
from training.fitting.fit import Fit, fit
from training.fitting.lightning_module import TrainingModule
from training.fitting.objectives.likelihood import negative_log_likelihood
from training.fitting.training_run import precision

RECIPE = tiny_training_recipe()
TRAIN, VALIDATION = np.arange(0, 30), np.arange(30, 40)


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> CachedCohort:
    root = tmp_path_factory.mktemp("cohort")
    return cache_cohort(tiny_cohort(root / "in"), RECIPE, root / "cache")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def whole(cached: CachedCohort, folder: Path) -> tuple[Fit, Sink]:
    sink = Sink()
    return fit(cached, RECIPE, TRAIN, VALIDATION, folder, sink), sink


def weights(found: Fit) -> torch.Tensor:
    return torch.cat([parameter.flatten() for parameter in found.model.parameters()])


def test_learns(whole: tuple[Fit, Sink]):
    found, sink = whole
    assert found.steps == 9  # 3 epochs of 3 whole batches
    totals = [sink.seen["train_total"][step] for step in sorted(sink.seen["train_total"])]
    assert len(totals) == found.steps
    assert np.mean(totals[-3:]) < np.mean(totals[:3])
    assert not found.model.training


def test_the_weights_are_those_of_the_best_epoch(cached: CachedCohort, whole: tuple[Fit, Sink]):
    found, sink = whole
    losses = [sink.seen["validation_loss"][step] for step in sorted(sink.seen["validation_loss"])]
    assert found.validation_loss == pytest.approx(min(losses))
    assert found.epochs == int(np.argmin(losses)) + 1
    predictions = predict(found.model, found.preprocessing, cached, VALIDATION, RECIPE)
    each = []
    for logits in predictions.fused.values():
        rows = torch.from_numpy(~np.isnan(logits).any(axis=1))
        filled = torch.from_numpy(np.nan_to_num(logits))
        loss = negative_log_likelihood(filled, torch.from_numpy(predictions.labels), exclusive=False, rows=rows)
        each.append(loss.item())
    assert np.mean(each) == pytest.approx(found.validation_loss, abs=1e-5)


def test_the_same_seed_trains_the_same_model(cached: CachedCohort, whole: tuple[Fit, Sink], tmp_path: Path):
    torch.rand(3)
    again = fit(cached, RECIPE, TRAIN, VALIDATION, tmp_path, Sink())
    assert torch.equal(weights(again), weights(whole[0]))


def _stop_in_epoch(monkeypatch: pytest.MonkeyPatch, epoch: int, error: type[BaseException]) -> None:
    step = TrainingModule.training_step

    def breaking(self: TrainingModule, batch, number: int):
        if self.current_epoch == epoch and number == 1:
            raise error
        return step(self, batch, number)

    monkeypatch.setattr(TrainingModule, "training_step", breaking)


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_an_interrupted_training_ends_where_the_whole_one_does(
    cached: CachedCohort,
    whole: tuple[Fit, Sink],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    epoch: int,
):
    with monkeypatch.context() as patch:
        _stop_in_epoch(patch, epoch, RuntimeError)
        with pytest.raises(RuntimeError):
            fit(cached, RECIPE, TRAIN, VALIDATION, tmp_path, Sink())
    sink = Sink()
    resumed = fit(cached, RECIPE, TRAIN, VALIDATION, tmp_path, sink)
    assert min(sink.seen["train_total"]) == 3 * epoch
    assert resumed.steps == whole[0].steps
    assert resumed.epochs == whole[0].epochs
    assert torch.equal(weights(resumed), weights(whole[0]))
    # The best epoch may come before the interruption; the last one never does.
    expected, found = (torch.load(where / "last.ckpt", weights_only=True) for where in (folder, tmp_path))
    assert all(torch.equal(found["state_dict"][name], value) for name, value in expected["state_dict"].items())


def test_an_interrupt_from_the_keyboard_is_one(cached: CachedCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = signal.getsignal(signal.SIGINT)
    _stop_in_epoch(monkeypatch, 0, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(cached, RECIPE, TRAIN, VALIDATION, tmp_path, Sink())
    assert signal.getsignal(signal.SIGINT) == before


def test_a_finished_training_is_not_done_again(cached: CachedCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = fit(cached, RECIPE, TRAIN, VALIDATION, tmp_path, Sink())
    monkeypatch.setattr(lightning.Trainer, "fit", None)
    again = fit(cached, RECIPE, TRAIN, VALIDATION, tmp_path, Sink())
    assert torch.equal(weights(first), weights(again))
    assert (first.epochs, first.steps, first.validation_loss) == (again.epochs, again.steps, again.validation_loss)


@pytest.mark.parametrize("change", ["recipe", "split"])
def test_what_another_training_left_is_refused(
    cached: CachedCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
):
    recipe = RECIPE.model_copy(update={"seed": 99}) if change == "recipe" else RECIPE
    train = TRAIN if change == "recipe" else TRAIN[1:]
    with monkeypatch.context() as patch:
        _stop_in_epoch(patch, 1, RuntimeError)
        with pytest.raises(RuntimeError):
            fit(cached, RECIPE, TRAIN, VALIDATION, tmp_path, Sink())
    with pytest.raises(TrainingError, match="another recipe, cohort or split"):
        fit(cached, recipe, train, VALIDATION, tmp_path, Sink())
    fit(cached, RECIPE, TRAIN, VALIDATION, tmp_path, Sink())
    with pytest.raises(TrainingError, match="another recipe, cohort or split"):
        fit(cached, recipe, train, VALIDATION, tmp_path, Sink())


@pytest.mark.parametrize("wanted", [False, True])
def test_networks_are_compiled_where_the_recipe_says_so(
    cached: CachedCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool
):
    calls = []
    monkeypatch.setattr(TrainingModule, "compile_networks", lambda self: calls.append(self.training))
    training = {"epochs": 1, "batch_size": 8, "learning_rate": 0.01, "compile": wanted}
    fit(cached, tiny_training_recipe(training=training), TRAIN, VALIDATION, tmp_path, Sink())
    assert len(calls) == wanted


def test_without_validation_the_last_weights_are_taken(cached: CachedCohort, tmp_path: Path):
    found = fit(cached, RECIPE, TRAIN, None, tmp_path, Sink(), epochs=2)
    assert (found.epochs, found.steps, found.validation_loss) == (2, 6, None)


def test_fewer_epochs_keep_the_recipe_s_schedule(cached: CachedCohort, whole: tuple[Fit, Sink], tmp_path: Path):
    sink = Sink()
    fit(cached, RECIPE, TRAIN, VALIDATION, tmp_path, sink, epochs=1)
    for step in range(3):
        assert sink.seen["train_total"][step] == pytest.approx(whole[1].seen["train_total"][step])


def test_stops_early(cached: CachedCohort, tmp_path: Path):
    training = {"epochs": 30, "batch_size": 8, "learning_rate": 0.05, "patience": 2}
    found = fit(cached, tiny_training_recipe(training=training), TRAIN, VALIDATION, tmp_path, Sink())
    assert found.steps < 90
    assert found.steps == 3 * (found.epochs + 2)


def test_a_kill_between_the_last_epoch_and_the_end_trains_no_further(cached: CachedCohort, tmp_path: Path):
    training = {"epochs": 30, "batch_size": 8, "learning_rate": 0.05, "patience": 1}
    recipe = tiny_training_recipe(training=training)
    first = fit(cached, recipe, TRAIN, VALIDATION, tmp_path, Sink())
    (tmp_path / "fit.json").unlink()
    sink = Sink()
    again = fit(cached, recipe, TRAIN, VALIDATION, tmp_path, sink)
    assert "train_total" not in sink.seen
    assert (again.steps, again.epochs, again.validation_loss) == (first.steps, first.epochs, first.validation_loss)
    assert torch.equal(weights(first), weights(again))


def test_a_split_without_labels_is_refused(cached: CachedCohort, tmp_path: Path):
    records = tuple(replace(r, labels=np.full(2, np.nan, np.float32)) for r in cached.cohort.records)
    blank = replace(cached, cohort=replace(cached.cohort, records=records))
    with pytest.raises(TrainingError, match="the training split has no readable study with a known label"):
        fit(blank, RECIPE, TRAIN, VALIDATION, tmp_path, Sink())


def test_precision_follows_recipe_and_device(monkeypatch: pytest.MonkeyPatch):
    def recipe(name: str):
        return tiny_training_recipe(training={"precision": name})

    for gpu, units, expected in ((False, False, "32-true"), (True, False, "32-true"), (True, True, "bf16-mixed")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, units=units: units)
        assert precision(recipe("auto")) == expected
        assert precision(recipe("32")) == "32-true"
        assert precision(recipe("bf16")) == "bf16-mixed"
