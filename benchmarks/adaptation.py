"""What training an encoder costs by how much of it is trained: ``python benchmarks/adaptation.py``.

A phantom cohort is written and cached. A model of images is trained on it for some epochs in each way of adaptation; of
the frozen encoder once with its features from the cache and once with images augmented, which computes them in every
epoch. Processor time of an epoch is the median over all but the first, which fills the cache; validation is part of it.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from _options import read_options
from rich.console import Console
from rich.table import Table

from consilium.configuration.recipe import Recipe
from training.cohorts import load_cohort
from training.cohorts.phantom.write import write_phantom
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.fitting.fit import fit
from training.recipes import find_recipe

WAYS: Mapping[str, Sequence[str]] = {
    "frozen, cached": ("adaptation.name=frozen", "augmentation=false"),
    "frozen, augmented": ("adaptation.name=frozen",),
    "last block": ("adaptation.name=last",),
    "low-rank": ("adaptation.name=lora",),
    "all": (),
}


class EpochClock:
    """A sink that notes the processor time of every validation."""

    def __init__(self) -> None:
        self.times = [time.process_time()]
        self.losses: list[float] = []

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        del step
        if "validation_loss" in metrics:
            self.times.append(time.process_time())
            self.losses.append(metrics["validation_loss"])

    def flush(self) -> None: ...


def recipe_of(settings: Sequence[str], options: argparse.Namespace) -> Recipe:
    image = [f"modalities.image.{setting}" for setting in (*settings, f"encoder={options.encoder}")]
    shape = ["modalities.image.width=null"] if options.encoder.startswith("efficientnet") else []
    alone = ["modalities.text=false", "modalities.observations=false", f"training.epochs={options.epochs}"]
    return find_recipe("phantom-demo", [*image, *shape, *alone, f"training.patience={options.epochs}"])


def measured(cached: CachedCohort, recipe: Recipe, folder: Path) -> tuple[str, ...]:
    """Trained weights, all weights, their share, seconds of an epoch, lowest validation loss."""
    rows = np.arange(len(cached.studies))
    held_out = len(rows) // 4
    clock = EpochClock()
    found = fit(cached, recipe, rows[held_out:], rows[:held_out], folder, clock)
    of_image = found.parameters["image"]
    first, *further = np.diff(clock.times).tolist()
    seconds = statistics.median(further or [first])
    share = of_image["trained"] / of_image["all"]
    figures = (f"{of_image['trained']:,}", f"{of_image['all']:,}", f"{share:.1%}")
    return (*figures, f"{first:.2f}", f"{seconds:.2f}", f"{min(clock.losses):.3f}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=800)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--encoder", default="densenet121")
    parser.add_argument("--size", type=int, default=256, help="pixels of the phantoms")
    options = read_options(parser, arguments, studies=40, epochs=2, encoder="resnet18", size=64)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    table = Table("encoder", "trained", "all", "share", "first epoch, s", "further, s", "validation loss")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["CONSILIUM_HOME"] = str(folder / "home")
        write_phantom(folder / "cohort", options.studies, seed=5, size=options.size)
        cohort = load_cohort("phantom", folder / "cohort")
        for number, (way, settings) in enumerate(WAYS.items()):
            recipe = recipe_of(settings, options)
            cached = cache_cohort(cohort, recipe, folder / "files")
            table.add_row(way, *measured(cached, recipe, folder / f"fit-{number}"))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
