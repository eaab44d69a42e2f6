"""What training costs beside the same steps on tensors in memory: ``python benchmarks/training_step.py``.

A phantom cohort is written and cached. One epoch is then trained in four ways, each on a fresh copy of the same model,
round by round, and the medians of the processor time are compared (wall time would measure the neighbours too):

- the bare step: augmentation, losses, gradient and optimiser on batches that are tensors already;
- the same with batches from the data module (memory-mapped pixels, prepared notes and values);
- the same through Lightning, without tracking;
- the same through Lightning, with every metric of every step tracked in MLflow.
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

import lightning
import numpy as np
import torch
from _options import read_options
from rich.console import Console
from rich.table import Table

from consilium.configuration.recipe import Recipe
from consilium.preprocessing.batch import Batch
from consilium.preprocessing.collate import Preprocessing
from training.cohorts import load_cohort
from training.cohorts.phantom.write import write_phantom
from training.data.cached_cohort import cache_cohort
from training.data.datamodule import StudyDataModule, StudyDataset
from training.fitting.callbacks import SinkLogger
from training.fitting.lightning_module import TrainingModule, build_model
from training.fitting.schedule import optimizer
from training.recipes import find_recipe
from training.runtime.tracking import MetricSink, TrackedRun


class Nowhere:
    """A sink that keeps nothing."""

    def log(self, metrics: Mapping[str, float], step: int) -> None: ...

    def flush(self) -> None: ...


def bare(module: TrainingModule, recipe: Recipe, batches: Iterable[Batch]) -> None:
    adamw = optimizer(module.model, recipe.training)
    with patch.object(module, "log_dict"):
        for batch in batches:
            loss = module.training_step(batch, 0)
            adamw.zero_grad()
            module.backward(loss)
            torch.nn.utils.clip_grad_norm_(module.parameters(), recipe.training.gradient_clip)
            adamw.step()


def through_lightning(module: TrainingModule, recipe: Recipe, data: StudyDataModule, sink: MetricSink) -> float:
    """Processor seconds of the epoch, without the trainer's start."""
    seconds: list[float] = []

    class Clock(lightning.Callback):
        def on_train_epoch_start(self, *_: object) -> None:
            seconds.append(time.process_time())

        def on_train_epoch_end(self, *_: object) -> None:
            sink.flush()
            seconds.append(time.process_time())

    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_val_batches=0,
        gradient_clip_val=recipe.training.gradient_clip,
        logger=SinkLogger(sink),
        log_every_n_steps=1,
        callbacks=[Clock()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    return seconds[1] - seconds[0]


def timed(way: Callable[[], object]) -> float:
    begun = time.process_time()
    way()
    return time.process_time() - begun


def measure(recipe: Recipe, folder: Path, studies: int, size: int, rounds: int) -> dict[str, float]:
    """Median seconds of each way, after one round that is not counted."""
    write_phantom(folder / "phantom", studies, seed=1, size=size, workers=1, splits=None)
    cohort = load_cohort("phantom", folder / "phantom")
    cached = cache_cohort(cohort, recipe, folder / "cache")
    preprocessing = Preprocessing.fit(recipe, cached.studies)
    dataset = StudyDataset(cached, preprocessing, np.arange(studies))
    data = StudyDataModule(preprocessing, dataset, None, recipe)
    model = build_model(recipe, cohort.findings, preprocessing).train()
    in_memory = list(data.train_dataloader())
    tracked = TrackedRun.start(recipe)

    def fresh() -> TrainingModule:
        return TrainingModule(copy.deepcopy(model), recipe, cohort.findings, "benchmark", preprocessing)

    ways: dict[str, Callable[[], float]] = {
        "tensors in memory": lambda: timed(lambda: bare(fresh(), recipe, in_memory)),
        "data module": lambda: timed(lambda: bare(fresh(), recipe, data.train_dataloader())),
        "Lightning": lambda: through_lightning(fresh(), recipe, data, Nowhere()),
        "Lightning, tracked": lambda: through_lightning(fresh(), recipe, data, tracked),
        "loading alone": lambda: timed(lambda: list(data.train_dataloader())),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            seconds[name].append(way())
    tracked.end("FINISHED")
    return {name: statistics.median(taken[1:]) / len(in_memory) for name, taken in seconds.items()}


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--recipe", default="phantom-demo")
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments.add_argument("--studies", type=int, default=320)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--size", type=int, default=256, help="pixels of the phantoms")
    given = read_options(arguments, argv, recipe="phantom-tiny", studies=32, rounds=1, size=64)
    torch.set_num_threads(given.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    recipe = find_recipe(given.recipe, given.set)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # A store of its own: a benchmark is no training.
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        seconds = measure(recipe, Path(folder), given.studies, given.size, given.rounds)
    title = (
        f"{' '.join([given.recipe, *given.set])}, batches of {recipe.training.batch_size}, {given.threads} thread(s)"
    )
    table = Table("one step", "ms", "× tensors in memory", title=title)
    for name, taken in seconds.items():
        table.add_row(name, f"{1000 * taken:.1f}", f"{taken / seconds['tensors in memory']:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
