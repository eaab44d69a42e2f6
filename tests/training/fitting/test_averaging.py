from __future__ import annotations

from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from torch import nn

from tests.training.cohorts_made import Sink, tiny_cohort, tiny_training_recipe
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.evaluation.predict import predict
from training.fitting.averaging import MovingAverage, warm_decay
from training.fitting.fit import fit
from training.fitting.lightning_module import TrainingModule
from training.fitting.objectives.likelihood import negative_log_likelihood

TRAINING = {"epochs": 3, "batch_size": 8, "learning_rate": 0.01, "ema": 0.4}
RECIPE = tiny_training_recipe(training=TRAINING)
TRAIN, VALIDATION = np.arange(0, 30), np.arange(30, 40)


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> CachedCohort:
    root = tmp_path_factory.mktemp("cohort")
    return cache_cohort(tiny_cohort(root / "in"), RECIPE, root / "cache")


def average(walk: list[torch.Tensor], decay: float) -> list[torch.Tensor]:
    """The average after each step of `walk`, by the textbook."""
    averages = [walk[0]]
    for steps, weights in enumerate(walk[1:], start=1):
        keep = min(decay, (1 + steps) / (10 + steps))
        averages.append(keep * averages[-1] + (1 - keep) * weights)
    return averages


def test_the_decay_warms_up():
    assert [warm_decay(0.9, steps) for steps in (0, 8, 1000)] == [0.1, 0.5, 0.9]


def test_the_average_of_weights_and_of_batch_statistics():
    module = _Module()
    model = module.model
    callback = MovingAverage(0.2)
    callback.setup(None, module, "fit")
    rng = torch.Generator().manual_seed(0)
    walk, statistics = [], []
    for _ in range(5):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=rng))
        model(torch.randn(8, 3, generator=rng))
        callback._average_model.update_parameters(module)
        walk.append(model[0].weight.detach().clone())
        statistics.append(model[1].running_mean.clone())
    mean = callback._average_model.module.model
    assert torch.allclose(mean[0].weight, average(walk, 0.2)[-1])
    assert torch.allclose(mean[1].running_mean, average(statistics, 0.2)[-1])
    assert mean[1].num_batches_tracked == 5
    assert not torch.allclose(mean[0].weight, model[0].weight, atol=0.1)


class _Module(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_the_average_is_validated_and_kept(cached: CachedCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    walk: list[torch.Tensor] = []

    def remember(self: TrainingModule, *_: object) -> None:
        walk.append(self.model.head.weight.detach().clone())

    monkeypatch.setattr(TrainingModule, "on_train_batch_end", remember)
    found = fit(cached, RECIPE, TRAIN, VALIDATION, tmp_path, Sink())
    expected = average(walk, 0.4)[3 * found.epochs - 1]
    assert torch.allclose(found.model.head.weight, expected, atol=1e-6)
    assert not torch.allclose(found.model.head.weight, walk[3 * found.epochs - 1], atol=1e-4)
    predictions = predict(found.model, found.preprocessing, cached, VALIDATION, RECIPE)
    each = []
    for logits in predictions.fused.values():
        rows = torch.from_numpy(~np.isnan(logits).any(axis=1))
        filled = torch.from_numpy(np.nan_to_num(logits))
        each.append(
            negative_log_likelihood(filled, torch.from_numpy(predictions.labels), exclusive=False, rows=rows).item()
        )
    assert np.mean(each) == pytest.approx(found.validation_loss, abs=1e-5)


def test_an_interrupted_average_goes_on_exactly(cached: CachedCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fit(cached, RECIPE, TRAIN, VALIDATION, tmp_path / "whole", Sink())
    step = TrainingModule.training_step

    def breaking(self: TrainingModule, batch, number: int):
        if self.current_epoch == 1 and number == 1:
            raise RuntimeError
        return step(self, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", breaking)
        with pytest.raises(RuntimeError):
            fit(cached, RECIPE, TRAIN, VALIDATION, tmp_path / "cut", Sink())
    fit(cached, RECIPE, TRAIN, VALIDATION, tmp_path / "cut", Sink())
    expected, found = (torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("whole", "cut"))
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(found[part][name], value) for name, value in expected[part].items())
    assert found["averaging_state"]["n_averaged"] == 9
