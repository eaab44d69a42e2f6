"""What scoring an archive reaches on several cores, and what it holds: ``python benchmarks/archive.py``.

A phantom cohort is scored by a model of full size with random weights, by one process and by one worker a core on Ray,
round by round. Throughput is counted from the first finished chunk to the last, so that starting up is not part of it;
the share is that of as many single processes as there are workers, none of which would wait for another. Time on the
wall is shared with whatever else the machine does; CPU time of a study is not.

With ``--memory 1000,10000`` phantoms of these sizes are scored, too, each by one process of its own, and its memory
with its decoder is given: after the first chunk, until an eighth of the studies had a row, and until the last had.
``--cohorts FOLDER`` finds them as ``FOLDER/SIZE/cohort``, where ``benchmarks/cohort_scale.py --out`` has written them;
``--rounds 0`` leaves throughput out.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shlex
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import psutil
from _options import read_options
from _random_model import model_folder

from training.archive.score_archive import plan_scoring, run_scoring
from training.cohorts.phantom.write import write_phantom
from training.pretraining.encoder_card import markdown_table


class Meter:
    """When studies had their rows, and how much memory that took."""

    def __init__(self) -> None:
        self.times: list[tuple[float, int]] = []
        self.memory: list[tuple[int, int]] = []
        self.cpu: list[float] = []

    def __call__(self, done: int) -> None:
        self.times.append((time.perf_counter(), done))
        own = psutil.Process()
        resident, cpu = zip(*map(_used, (own, *own.children(recursive=True))), strict=True)
        self.memory.append((done, sum(resident)))
        self.cpu.append(sum(cpu))

    @property
    def throughput(self) -> float:
        """Studies a second, behind the first chunk."""
        (begun, first), (ended, last) = self.times[1], self.times[-1]
        return (last - first) / (ended - begun)

    @property
    def cpu_milliseconds(self) -> float:
        """Of a study behind the first chunk."""
        return 1000 * (self.cpu[-1] - self.cpu[1]) / (self.times[-1][1] - self.times[1][1])

    def most_mebibytes(self, share: float) -> float:
        """Until `share` of the studies had a row."""
        (first, _), (last, _) = self.memory[1], self.memory[-1]
        return max(size for done, size in self.memory[1:] if done <= max(share * last, first)) / 2**20


def _used(process: psutil.Process) -> tuple[int, float]:
    """Bytes in memory, and seconds of CPU so far; nothing of one that has just ended."""
    try:
        with process.oneshot():
            times = process.cpu_times()
            return process.memory_info().rss, times.user + times.system
    except psutil.NoSuchProcess:
        return 0, 0.0


def scored(source: Path, model: Path, out: Path, workers: int, chunk: int) -> Meter:
    meter = Meter()
    run_scoring(
        plan_scoring(source, str(model), out, chunk=chunk), workers=workers, device="cpu", threads=1, done=meter
    )
    return meter


def held(size: int, cohorts: Path | None, model: Path, chunk: int) -> dict[str, str | int]:
    """A line of the table: a phantom of `size` studies, scored by this process."""
    with TemporaryDirectory() as name:
        source = Path(name) / "phantom" if cohorts is None else cohorts / str(size) / "cohort"
        if cohorts is None:
            write_phantom(source, size, seed=1, size=64, splits=None)
        meter = scored(source, model, Path(name) / "scores", 1, chunk)
    first, eighth, last = (f"{meter.most_mebibytes(share):.0f}" for share in (0, 1 / 8, 1))
    line = {"studies": size, "CPU ms a study": f"{meter.cpu_milliseconds:.1f}", "MiB after the first chunk": first}
    return line | {"at an eighth": eighth, "at the end": last}


def apart(*given: object) -> dict[str, str | int]:
    """`held` by a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as own:
        return own.submit(held, *given).result()


def throughput_table(given: argparse.Namespace, model: Path) -> pd.DataFrame:
    """One process, and as many workers as were asked for, in turn."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_phantom(folder / "phantom", given.studies, seed=1, size=given.size, splits=None)
        one, many = [], []
        for number in range(given.rounds):
            one.append(scored(folder / "phantom", model, folder / f"one-{number}", 1, given.chunk))
            many.append(scored(folder / "phantom", model, folder / f"many-{number}", given.workers, given.chunk))
    lines = []
    single = statistics.median(meter.throughput for meter in one)
    for who, meters, workers in (("one process", one, 1), (f"{given.workers} worker(s)", many, given.workers)):
        reached = statistics.median(meter.throughput for meter in meters)
        line = {"scored by": who, "studies/s": f"{reached:.2f}"}
        line["share of as many single processes"] = f"{reached / single / workers:.2f}"
        cpu = statistics.median(meter.cpu_milliseconds for meter in meters)
        lines.append(line | {"CPU ms a study": f"{cpu:.1f}"})
    return pd.DataFrame(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=600)
    parser.add_argument("--size", type=int, default=1024, help="pixels of the films")
    parser.add_argument("--chunk", type=int, default=16)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="1: no Ray")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--encoder", default="densenet121")
    parser.add_argument("--image", type=int, default=224, help="pixels that the model reads")
    parser.add_argument("--memory", default="", help="sizes of cohorts whose memory is measured")
    parser.add_argument("--cohorts", type=Path, help="where they are")
    smallest = {"size": 64, "chunk": 4, "workers": 1, "rounds": 1, "encoder": "resnet18", "image": 64, "memory": "12"}
    given = read_options(parser, argv, studies=12, **smallest)
    tables = []
    with model_folder(None, given.encoder, given.image) as model:
        if given.rounds:
            tables.append(throughput_table(given, model))
        sizes = [int(text) for text in given.memory.split(",") if text]
        if sizes:
            run = held if given.smoke else apart
            tables.append(pd.DataFrame([run(size, given.cohorts, model, given.chunk) for size in sizes]))
    command = f"python benchmarks/archive.py {shlex.join(sys.argv[1:] if argv is None else argv)}"
    print("\n\n".join([f"    {command}", *map(markdown_table, tables)]))


if __name__ == "__main__":
    main()
