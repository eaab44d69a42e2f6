"""What tests run in two processes: ``torchrun -m tests.training.processes FOLDER`` leaves what it found in FOLDER."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from tests.consilium.tiny import TEXT
from tests.training.cohorts_made import Sink, tiny_cohort, tiny_training_recipe
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.fitting.callbacks import DurableCheckpoints
from training.fitting.fit import Fit, fit
from training.fitting.lightning_module import TrainingModule
from training.runtime.distributed import Share, average_gradients, average_statistics, mean_over_processes, rank, world
from training.runtime.process_group import machines, process_group, together

TRAIN, VALIDATION = np.arange(0, 30), np.arange(30, 39)
GRADIENTS = ("sum", "mmpareto")
REFUSED = ({"batch_size": 9}, {"batch_size": 32}, {"devices": 4})

Gradients = list[dict[str, torch.Tensor | None]]


def recipe_for(devices: int, gradient: str = "sum", **training: object) -> Recipe:
    """Layer norms only and no dropout layers; every other draw of a step is there."""
    settings: dict[str, object] = {
        "epochs": 1,
        "batch_size": 8,
        "learning_rate": 0.003,
        "gradient_clip": 100,
        "devices": devices,
    }
    return tiny_training_recipe(
        image={"encoder": "vit", "size": 64, "patch": 4, "width": 8, "depth": 2, "augmentation": {"noise": 0.05}},
        text={**TEXT, "dropout": 0.0, "word_dropout": 0.2},
        fusion={"name": "concat", "width": 16, "depth": 1, "heads": 2, "dropout": 0.0},
        objectives={"gradient": gradient},
        training=settings | training,
    )


def cached_in(root: Path) -> CachedCohort:
    """Few studies with an image: many a share of a batch has none, and so has a whole batch."""
    cohort = tiny_cohort(root / "in")
    kept = [
        record if row in (0, 1, 2, 30, 31) else replace(record, files={}) for row, record in enumerate(cohort.records)
    ]
    cohort = replace(cohort, records=tuple(kept))
    return cache_cohort(cohort, recipe_for(1), root / "cache")


def trained(cached: CachedCohort, recipe: Recipe, folder: Path, sink: Sink) -> tuple[Fit, Gradients]:
    """A training, and the gradient of every weight before each of its steps."""
    seen: Gradients = []

    def remember(self: TrainingModule, _: object) -> None:
        seen.append({n: None if p.grad is None else p.grad.clone() for n, p in self.model.named_parameters()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingModule, "on_before_optimizer_step", remember)
        return fit(cached, recipe, TRAIN, VALIDATION, folder, sink), seen


def write_means(folder: Path) -> None:
    """Means of what differs between the processes, written down by each."""
    own = float(rank())
    weights = [torch.zeros(2), torch.zeros(3), torch.zeros(1)]
    gradients = [torch.full((2,), own), None if rank() else torch.ones(3), None]
    norm = nn.BatchNorm1d(2)
    with torch.no_grad():
        norm.running_mean.fill_(4 * own)
    average_statistics(norm)
    found = {
        "world": world(),
        "mean": mean_over_processes(torch.tensor([own, 1.0])),
        "gradients": average_gradients(gradients, weights),
        "statistics": norm.running_mean,
        "share": Share.of_batch(3).take(torch.arange(6)),
    }
    torch.save(found, folder / f"{rank()}.pt")


def _facts(found: Fit, gradients: Gradients, sink: Sink) -> dict[str, object]:
    weights = [parameter.detach() for parameter in found.model.parameters()]
    facts = {"epochs": found.epochs, "steps": found.steps, "validation_loss": found.validation_loss}
    return facts | {"weights": weights, "gradients": gradients, "seen": {n: dict(s) for n, s in sink.seen.items()}}


def _cut_after_the_second_epoch(folder: Path):
    """Saves as ever, and leaves in `folder` what a kill in the third epoch would."""
    save = DurableCheckpoints.save_checkpoint

    def saving(self: DurableCheckpoints, checkpoint: dict, path: Path, storage_options: object = None) -> None:
        save(self, checkpoint, path, storage_options)
        if checkpoint["epoch"] <= 1:
            save(self, checkpoint, folder / Path(path).name, storage_options)

    return saving


def _stopped_and_resumed(cached: CachedCohort, folder: Path) -> tuple[dict[str, object], dict[str, object]]:
    """A whole training with early stopping, and one that goes on from its second epoch."""
    recipe = recipe_for(2, epochs=12, patience=2, learning_rate=0.05, ema=0.3)
    run, cut, sink = folder / "run", folder / "cut", Sink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DurableCheckpoints, "save_checkpoint", _cut_after_the_second_epoch(cut))
        whole = _facts(*trained(cached, recipe, run, sink), sink)
    shutil.rmtree(run)
    cut.rename(run)
    sink = Sink()
    return whole, _facts(*trained(cached, recipe, run, sink), sink)


def _refusals(cached: CachedCohort, folder: Path) -> list[str]:
    found = []
    for change in REFUSED:
        try:
            fit(cached, recipe_for(**({"devices": 2} | change)), TRAIN, VALIDATION, folder, Sink())  # type: ignore[arg-type]
        except TrainingError as error:
            found.append(str(error))
    return found


def lead(folder: Path) -> None:
    """Everything that needs two processes, into ``means`` and ``found.pt``."""
    (folder / "means").mkdir()
    with together(write_means, folder / "means"):
        write_means(folder / "means")
    cached = cached_in(folder)
    found: dict[str, object] = {"between": (rank(), world())}
    for gradient in GRADIENTS:
        sink = Sink()
        found[gradient] = _facts(*trained(cached, recipe_for(2, gradient), folder / gradient, sink), sink)
    found["whole"], found["resumed"] = _stopped_and_resumed(cached, folder)
    found["refused"] = _refusals(cached, folder / "refused")
    torch.save(found, folder / "found.pt")


def lead_machines(folder: Path) -> None:
    """One training, into ``found.pt``, and on how many machines."""
    sink = Sink()
    facts = _facts(*trained(cached_in(folder), recipe_for(2), folder / "sum", sink), sink)
    torch.save({"machines": machines(), "sum": facts}, folder / "found.pt")


def main(folder: Path, what: str) -> None:
    with process_group(2) as leads:
        if leads and what == "lead":
            lead(folder)
        elif leads and what == "machines":
            lead_machines(folder)
        elif leads:
            with together(os._exit, 3):
                mean_over_processes(torch.zeros(1))
    (folder / f"leads-{leads}").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
