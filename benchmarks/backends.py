"""What each backend makes of the model alone: ``python benchmarks/backends.py [--model FOLDER [--cohort COHORT]]``.

Every backend takes the model's reference studies that have all modalities, in batches of the size that suits it best,
one backend after the other in each round. Counted is the CPU time of all its threads, so that a busy machine matters
little. The ratios to eager float32 are medians over the rounds. Beside them: how far its answers to all reference
studies are from the plain model's, and whether a service would take it. With the cohort that the model was trained on,
also how far its answers to the test split's radiographs alone are, which no part of the model has seen. Films of the
public cohort are split where ``consilium train covid-chestxray`` is given ``--set evaluation.protocol=split --set
splits.train=0.6 --set splits.validation=0.1 --set splits.calibration=0.1 --set splits.test=0.2``; a DenseNet121 has
``--set modalities.image.encoder=densenet121 --set modalities.image.width=64``, ten epochs ``--set training.epochs=10``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from _options import read_options
from _random_model import model_folder
from rich.console import Console
from rich.table import Table

from consilium.domain.errors import WrongAnswers
from consilium.domain.study import Study
from consilium.inference.diagnostician import Diagnostician
from consilium.inference.self_test import Backend, Tolerance
from consilium.modalities.image.records import read_image
from consilium.preprocessing.batch import Prepared
from training.cohorts import load_cohort
from training.cohorts.splits import split_cohort

Array = npt.NDArray[np.float64]

BATCHES = (1, 4, 8, 16, 32)
MOST_RADIOGRAPHS = 300


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


def radiographs(diagnostician: Diagnostician, root: Path) -> list[Prepared]:
    """Of each study in the cohort's test split its first image, as a study of nothing else."""
    recipe = diagnostician.recipe
    chosen = recipe.cohort
    cohort = load_cohort(chosen.kind, root, chosen.options)
    rows = split_cohort(cohort, recipe.splits.model_dump(), recipe.seed)["test"]
    paths = [file.path for row in rows for file in cohort.records[row].files["image"][:1]]
    images = [read_image(path.read_bytes()) for path in paths[:MOST_RADIOGRAPHS]]
    return [diagnostician.prepare(Study({"image": (image,)})) for image in images]


def probabilities(diagnostician: Diagnostician, items: Sequence[Prepared]) -> Array:
    """Of each finding, [N, F]; in batches of one."""
    answers = [diagnostician.diagnose_prepared([item])[0] for item in items]
    return np.array([[finding.probability for finding in answer.findings] for answer in answers])


def deviation(found: Array, plain: Array) -> str:
    off = np.abs(found - plain).max(axis=1)
    return f"at most {off.max():.3f}; {(off > Tolerance().backend).mean():.1%} beyond {Tolerance().backend:g}"


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


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", type=Path, help="a model folder; a random DenseNet121 at 224 pixels unless given")
    arguments.add_argument("--cohort", type=Path, help="the cohort that the model was trained on")
    arguments.add_argument("--encoder", default="densenet121")
    arguments.add_argument("--size", type=int, default=224)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    given = read_options(arguments, argv, encoder="resnet18", size=64, rounds=1, seconds=0.01)
    with model_folder(given.model, given.encoder, given.size) as folder:
        measured = {backend: begin(folder, backend, given.threads, given.seconds / 2) for backend in Backend}
        items = whole_studies(measured[Backend.EAGER].diagnostician)
        for _ in range(given.rounds):
            for one in measured.values():
                one.rates.append(rate(one.diagnostician, items, one.best, given.seconds))
    plain = measured[Backend.EAGER]
    image = plain.diagnostician.recipe.modalities["image"]
    title = f"{image.encoder}, {image.size} × {image.size}, {given.threads} thread(s), {given.rounds} rounds"
    films = [] if given.cohort is None else radiographs(plain.diagnostician, given.cohort)
    unseen = [f"{len(films)} unseen radiographs"] if films else []
    table = Table("backend", "best batch", "studies/CPU s", "of eager", "reference studies", *unseen, title=title)
    expected = probabilities(plain.diagnostician, films)
    for backend, one in measured.items():
        ratio = statistics.median(mine / eager for mine, eager in zip(one.rates, plain.rates, strict=True))
        cells = [str(one.best), f"{statistics.median(one.rates):.1f}", f"{ratio:.2f}", one.verdict]
        cells += [deviation(probabilities(one.diagnostician, films), expected)] if films else []
        table.add_row(backend, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
