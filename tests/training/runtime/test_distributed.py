"""Two processes on this machine, joined by gloo: this one leads, the other is started once for all tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from tests.conftest import ROOT
from tests.training.cohorts_made import Sink, tiny_cohort, tiny_training_recipe
from tests.training.processes import write_means
from training.data.datamodule import CachedCohort, cache_cohort
from training.fitting.callbacks import DurableCheckpoints
from training.fitting.fit import Fit, fit
from training.fitting.lightning_module import TrainingModule
from training.runtime.distributed import company, mean_over_processes, rank, together, world

TRAIN, VALIDATION = np.arange(0, 30), np.arange(30, 39)


def recipe_for(devices: int, **training: object) -> Recipe:
    """Layer norms only and no dropout layers; every other draw of a step is there."""
    settings: dict[str, object] = {
        "epochs": 1,
        "batch_size": 8,
        "learning_rate": 0.003,
        "gradient_clip": 100,
        "augmentation": {"words": 0.2, "noise": 0.05},
        "devices": devices,
    }
    return tiny_training_recipe(
        image={"encoder": "vit", "size": 64, "patch": 4, "width": 8, "depth": 2},
        text={"width": 16, "depth": 1, "heads": 2, "vocabulary": 200, "max_tokens": 32, "dropout": 0.0},
        fusion={"name": "concat", "width": 16, "depth": 1, "heads": 2, "dropout": 0.0},
        training=settings | training,
    )


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> CachedCohort:
    """Few studies with an image: many a share of a batch has none, and so has a whole batch."""
    root = tmp_path_factory.mktemp("cohort")
    cohort = tiny_cohort(root / "in")
    kept = [
        record if row in (0, 1, 2, 30, 31) else replace(record, images=()) for row, record in enumerate(cohort.records)
    ]
    cohort = replace(cohort, records=tuple(kept))
    return cache_cohort(cohort, recipe_for(1), root / "cache")


@pytest.fixture(scope="module", autouse=True)
def two() -> Iterator[None]:
    with company(2) as leads:
        assert leads
        yield


Gradients = list[dict[str, torch.Tensor | None]]


def trained(cached: CachedCohort, recipe: Recipe, folder: Path, patch: pytest.MonkeyPatch) -> tuple[Fit, Gradients]:
    """A training, and the gradient of every weight before each of its steps."""
    seen: Gradients = []

    def remember(self: TrainingModule, _: object) -> None:
        seen.append({n: None if p.grad is None else p.grad.clone() for n, p in self.model.named_parameters()})

    with patch.context() as patched:
        patched.setattr(TrainingModule, "on_before_optimizer_step", remember)
        if recipe.training.devices == 1:
            patched.setattr("training.runtime.distributed._open", None)
        return fit(cached, recipe, TRAIN, VALIDATION, folder, Sink()), seen


@pytest.mark.parametrize("gradient", ["sum", "mmpareto"])
def test_two_processes_make_the_steps_of_one(
    cached: CachedCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gradient: str
):
    fits, walks = [], []
    for devices in (1, 2):
        recipe = recipe_for(devices)
        objectives = recipe.objectives.model_copy(update={"gradient": gradient})
        recipe = recipe.model_copy(update={"objectives": objectives})
        found, walk = trained(cached, recipe, tmp_path / str(devices), monkeypatch)
        fits.append(found)
        walks.append(walk)
    assert len(walks[0]) == len(walks[1]) == 3
    for one, other in zip(*walks, strict=True):
        # In a batch without an image, its encoder has no gradient in either.
        assert {n for n, g in one.items() if g is None} == {n for n, g in other.items() if g is None}
        for name, gradient_of_one in one.items():
            if gradient_of_one is not None:
                assert torch.allclose(gradient_of_one, other[name], atol=1e-5, rtol=0), name
    assert any(g is None for walk in walks[0] for g in walk.values())
    assert any(g is not None for walk in walks[0] for n, g in walk.items() if n.startswith("encoders.image"))
    assert fits[0].validation_loss == pytest.approx(fits[1].validation_loss, abs=1e-5)
    assert (fits[0].epochs, fits[0].steps) == (fits[1].epochs, fits[1].steps)


def test_two_processes_stop_early_keep_the_best_and_resume(
    cached: CachedCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = recipe_for(2, epochs=12, patience=2, learning_rate=0.05, ema=0.3)
    sink = Sink()
    run, cut = tmp_path / "run", tmp_path / "cut"
    with monkeypatch.context() as patch:
        patch.setattr(DurableCheckpoints, "save_checkpoint", _cut_after_the_second_epoch(cut))
        whole = fit(cached, recipe, TRAIN, VALIDATION, run, sink)
    losses = [sink.seen["validation_loss"][step] for step in sorted(sink.seen["validation_loss"])]
    assert whole.validation_loss == pytest.approx(min(losses))
    assert whole.epochs == int(np.argmin(losses)) + 1
    assert whole.steps == 3 * min(12, whole.epochs + 2) < 36
    shutil.rmtree(run)
    cut.rename(run)
    sink = Sink()
    resumed = fit(cached, recipe, TRAIN, VALIDATION, run, sink)
    assert min(sink.seen["train_total"]) == 6
    assert (resumed.epochs, resumed.steps) == (whole.epochs, whole.steps)
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def _cut_after_the_second_epoch(folder: Path):
    """Saves as ever, and leaves in `folder` what a kill in the third epoch would."""
    save = DurableCheckpoints.save_checkpoint

    def saving(self: DurableCheckpoints, checkpoint: dict, path: Path, storage_options: object = None) -> None:
        save(self, checkpoint, path, storage_options)
        if checkpoint["epoch"] <= 1:
            save(self, checkpoint, folder / Path(path).name, storage_options)

    return saving


def test_means_over_processes(tmp_path: Path):
    assert (rank(), world()) == (0, 1)
    with together(write_means, tmp_path):
        write_means(tmp_path)
    assert (rank(), world()) == (0, 1)
    first, second = (torch.load(tmp_path / f"{number}.pt", weights_only=True) for number in (0, 1))
    for found in (first, second):
        assert found["world"] == 2
        assert found["mean"].tolist() == [0.5, 1.0]
        assert found["gradients"][0].tolist() == [0.5, 0.5]
        assert found["gradients"][1].tolist() == [0.5, 0.5, 0.5]
        assert found["gradients"][2] is None
        assert found["statistics"].tolist() == [2.0, 2.0]
    assert first["share"].tolist() + second["share"].tolist() == list(range(6))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"batch_size": 9}, "must be a multiple"),
        ({"batch_size": 32}, "need a whole batch"),
        ({"devices": 4}, "there are 2"),
    ],
)
def test_what_cannot_be_shared_is_refused(cached: CachedCohort, tmp_path: Path, change: dict, rule: str):
    with pytest.raises(TrainingError, match=rule):
        fit(cached, recipe_for(**({"devices": 2} | change)), TRAIN, VALIDATION, tmp_path, Sink())


def test_the_death_of_a_process_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("training.runtime.distributed._open", None)
    with (
        pytest.raises(TrainingError, match=r"process 1 of the training died \(exit 3\)"),
        company(2),
        together(os._exit, 3),
    ):
        mean_over_processes(torch.zeros(1))


def test_fewer_gpus_than_processes_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(TrainingError, match="has 1 GPU"), company(2):
        pass


SCRIPT = """
import sys
from pathlib import Path
from training.runtime.distributed import company, together
from tests.training.processes import write_means

with company(2) as leads:
    if leads:
        with together(write_means, Path(sys.argv[1])):
            write_means(Path(sys.argv[1]))
Path(sys.argv[1], f"leads-{leads}").touch()
"""


def test_torchrun_starts_the_processes(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script, tmp_path]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, cwd=tmp_path, timeout=300, capture_output=True)
    found = [torch.load(tmp_path / f"{number}.pt", weights_only=True)["mean"].tolist() for number in (0, 1)]
    assert found == [[0.5, 1.0], [0.5, 1.0]]
    assert (tmp_path / "leads-True").exists()
    assert (tmp_path / "leads-False").exists()
