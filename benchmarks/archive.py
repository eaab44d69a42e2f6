"""What scoring an archive reaches on several cores: ``python benchmarks/archive.py``.

A phantom cohort is scored by a model of full size with random weights, by one process and by one worker a core on Ray,
round by round. Throughput is counted from the first finished chunk to the last, so that starting up is not part of it;
the share is that of as many single processes as there are workers, none of which would wait for another.

Memory is that of the single process with its decoder: the most until an eighth of the studies had a row, and until the
last had.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from _options import read_options
from _random_model import model_folder
from rich.console import Console
from rich.table import Table

from training.archive.score_archive import plan_scoring, run_scoring
from training.cohorts.phantom.write import write_phantom


class Meter:
    """When studies had their rows, and how much memory that took."""

    def __init__(self) -> None:
        self.times: list[tuple[float, int]] = []
        self.memory: list[tuple[int, int]] = []

    def __call__(self, done: int) -> None:
        self.times.append((time.perf_counter(), done))
        own = psutil.Process()
        resident = sum(one.memory_info().rss for one in (own, *own.children(recursive=True)))
        self.memory.append((done, resident))

    @property
    def throughput(self) -> float:
        """Studies a second, behind the first chunk."""
        (begun, first), (ended, last) = self.times[1], self.times[-1]
        return (last - first) / (ended - begun)

    def most_mebibytes(self, share: float) -> float:
        """Until `share` of the studies had a row."""
        last = self.memory[-1][0]
        return max(size for done, size in self.memory[1:] if done <= share * last or done == self.memory[1][0]) / 2**20


def scored(source: Path, model: Path, out: Path, workers: int, chunk: int) -> Meter:
    meter = Meter()
    run_scoring(
        plan_scoring(source, str(model), out, chunk=chunk), workers=workers, device="cpu", threads=1, done=meter
    )
    return meter


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=600)
    parser.add_argument("--size", type=int, default=1024, help="pixels of the films")
    parser.add_argument("--chunk", type=int, default=16)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="1: no Ray")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--encoder", default="densenet121")
    parser.add_argument("--image", type=int, default=224, help="pixels that the model reads")
    given = read_options(parser, argv, studies=12, size=64, chunk=4, workers=1, rounds=1, encoder="resnet18", image=64)
    with TemporaryDirectory() as name, model_folder(None, given.encoder, given.image) as model:
        folder = Path(name)
        write_phantom(folder / "phantom", given.studies, seed=1, size=given.size, splits=None)
        one, many = [], []
        for number in range(given.rounds):
            one.append(scored(folder / "phantom", model, folder / f"one-{number}", 1, given.chunk))
            many.append(scored(folder / "phantom", model, folder / f"many-{number}", given.workers, given.chunk))
    single, together = (statistics.median(meter.throughput for meter in meters) for meters in (one, many))
    table = Table("scored by", "studies/s", "share of as many single processes", title=f"{given.studies} studies")
    table.add_row("one process", f"{single:.2f}", "1.00")
    table.add_row(f"{given.workers} worker(s)", f"{together:.2f}", f"{together / single / given.workers:.2f}")
    begun, ended = one[0].most_mebibytes(1 / 8), one[0].most_mebibytes(1)
    Console().print(table, f"memory: {begun:.0f} MiB at an eighth, {ended:.0f} MiB at the end ({ended / begun:.2f})")


if __name__ == "__main__":
    main()
