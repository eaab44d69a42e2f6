"""What an explanation costs beside a diagnosis: ``python benchmarks/explain.py [--model FOLDER] [--rounds 15]``.

One study with every modality, on one thread. Each way is timed in turn, round by round; the medians are compared.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from _options import read_options
from _random_model import model_folder, study
from rich.console import Console
from rich.table import Table

from consilium.inference.diagnostician import Diagnostician


def measure(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each way, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(taken[1:]) for name, taken in seconds.items()}


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", type=Path, help="a model folder; a random DenseNet121 at 224 pixels unless given")
    arguments.add_argument("--encoder", default="densenet121")
    arguments.add_argument("--size", type=int, default=224)
    arguments.add_argument("--side", type=int, default=1024, help="pixels of the image sent")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=15)
    given = read_options(arguments, argv, encoder="resnet18", size=64, side=64, rounds=1)
    torch.set_num_threads(given.threads)
    with model_folder(given.model, given.encoder, given.size) as folder:
        diagnostician = Diagnostician.load(folder, "cpu")
        asked = study(0, given.side)
        prepared = diagnostician.prepare(asked)
        names = diagnostician.findings.names
        seconds = measure(
            {
                "prepare": lambda: diagnostician.prepare(asked),
                "diagnose": lambda: diagnostician.diagnose_prepared([prepared]),
                "explain, fast, one finding": lambda: diagnostician.explain_prepared(prepared, names[:1]),
                f"explain, fast, all {len(names)} findings": lambda: diagnostician.explain_prepared(prepared),
                "explain, thorough, one finding": lambda: diagnostician.explain_prepared(
                    prepared, names[:1], "thorough"
                ),
            },
            given.rounds,
        )
    table = Table(
        "way",
        "ms",
        "× diagnose",
        title=f"{diagnostician.recipe.modalities['image'].encoder}, {given.threads} thread(s)",
    )
    for name, taken in seconds.items():
        table.add_row(name, f"{1000 * taken:.1f}", f"{taken / seconds['diagnose']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
