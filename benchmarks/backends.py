"""What each backend makes of the model alone: ``python benchmarks/backends.py [--model FOLDER]``.

Every backend takes the model's reference studies that have all modalities, in batches of the size that suits it best,
one backend after the other in each round. Counted is the CPU time of all its threads, so that a busy machine matters
little. The ratios to eager float32 are medians over the rounds. Beside them: how far its answers to all reference
studies are from the plain model's, and whether a service would take it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import torch
from _random_model import model_folder
from rich.console import Console
from rich.table import Table

from consilium.acceptance import Backend, Tolerance
from consilium.collate import Prepared
from consilium.diagnostician import Diagnostician
from consilium.errors import WrongAnswers

BATCHES = (1, 4, 8, 16, 32)


@dataclass
class Measured:
    """One backend: its best batch, and studies a second in each round."""

    diagnostician: Diagnostician
    verdict: str
    best: int
    rates: list[float] = field(default_factory=list)


def rate(diagnostician: Diagnostician, items: Sequence[Prepared], size: int, seconds: float) -> float:
    """Studies a second of CPU time, in batches of `size` that are in memory already."""
    batch = diagnostician.preprocessing.collate(list(islice(cycle(items), size)))
    with torch.inference_mode():
        diagnostician.network(batch)
        done, begun = 0, time.process_time()
        while (taken := time.process_time() - begun) < seconds:
            diagnostician.network(batch)
            done += size
    return done / taken


def whole_studies(diagnostician: Diagnostician) -> list[Prepared]:
    prepared = [diagnostician.prepare(reference.study()) for reference in diagnostician.references.studies]
    return [item for item in prepared if len(item.present) == len(diagnostician.recipe.modalities)]


def verdict(diagnostician: Diagnostician) -> str:
    try:
        accepted = diagnostician.accept(Tolerance())
    except WrongAnswers as error:
        return f"refused: {error}"
    return f"accepted, off by {accepted.largest_deviation:.1g}"


def begin(folder: Path, backend: Backend, threads: int, seconds: float) -> Measured:
    torch.set_num_threads(threads)
    diagnostician = Diagnostician.load(folder, "cpu", backend)
    items = whole_studies(diagnostician)
    rates = {size: rate(diagnostician, items, size, seconds) for size in BATCHES}
    return Measured(diagnostician, verdict(diagnostician), max(rates, key=lambda size: rates[size]))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", type=Path, help="a model folder; a random DenseNet121 at 224 pixels unless given")
    arguments.add_argument("--encoder", default="densenet121")
    arguments.add_argument("--size", type=int, default=224)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    given = arguments.parse_args()
    with model_folder(given.model, given.encoder, given.size) as folder:
        measured = {backend: begin(folder, backend, given.threads, given.seconds / 2) for backend in Backend}
        items = whole_studies(measured[Backend.EAGER].diagnostician)
        for _ in range(given.rounds):
            for one in measured.values():
                one.rates.append(rate(one.diagnostician, items, one.best, given.seconds))
    image = measured[Backend.EAGER].diagnostician.recipe.image
    title = f"{image.encoder}, {image.size} × {image.size}, {given.threads} thread(s), {given.rounds} rounds"
    table = Table("backend", "best batch", "studies/CPU s", "of eager", "reference studies", title=title)
    eager = measured[Backend.EAGER].rates
    for backend, one in measured.items():
        ratio = statistics.median(mine / plain for mine, plain in zip(one.rates, eager, strict=True))
        table.add_row(backend, str(one.best), f"{statistics.median(one.rates):.1f}", f"{ratio:.2f}", one.verdict)
    Console().print(table)


if __name__ == "__main__":
    main()
