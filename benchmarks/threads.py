"""What a second thread brings on idle cores, and what it costs when another process is busy.

One training step of a small image encoder with one thread and with one per core, alone and beside a process that keeps
one core busy; each as a ratio against one thread alone: ``python benchmarks/threads.py [--rounds 3]``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from _options import read_options

from consilium.configuration.recipe import FusionRecipe
from consilium.modalities.image.encoder import ImageEncoder
from consilium.modalities.image.section import ImageSection
from consilium.modalities.part import MASK

SIZE = 128


@contextmanager
def _busy_core(wanted: bool) -> Iterator[None]:
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if wanted else None
    try:
        yield
    finally:
        if other is not None:
            other.kill()
            other.wait()


def _step(encoder: ImageEncoder, images: int, repeats: int, threads: int) -> float:
    """Median seconds of a step, after two that are not counted."""
    torch.set_num_threads(threads)
    batch = torch.rand(images, 1, 1, SIZE, SIZE)
    there, views = torch.ones(images, 1, dtype=torch.bool), torch.zeros(images, 1, dtype=torch.long)
    inputs = {"images": batch, "views": views, MASK: there}
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        encoder(inputs).values.sum().backward()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--images", type=int, default=32, help="of a batch")
    arguments.add_argument("--repeats", type=int, default=6)
    given = read_options(arguments, argv, rounds=1, images=2, repeats=1)
    encoder = ImageEncoder(ImageSection(encoder="resnet18", size=SIZE, width=16), FusionRecipe(width=64))
    cores = len(os.sched_getaffinity(0))
    cases = [(threads, busy) for busy in (False, True) for threads in (1, cores)]
    seconds: dict[tuple[int, bool], list[float]] = {case: [] for case in cases}
    started, before = time.perf_counter(), torch.get_num_threads()
    for _ in range(given.rounds):
        for threads, busy in cases:
            with _busy_core(busy):
                seconds[threads, busy].append(_step(encoder, given.images, given.repeats, threads))
    torch.set_num_threads(before)
    alone = statistics.median(seconds[1, False])
    print(f"{cores} cores, {given.rounds} interleaved rounds, {time.perf_counter() - started:.0f} s")
    for threads, busy in cases:
        median = statistics.median(seconds[threads, busy])
        beside = "beside a busy process" if busy else "alone"
        share = median / alone
        print(f"{threads} thread(s) {beside:22} {1000 * median:8.1f} ms a step, {share:6.2f} of one thread alone")


if __name__ == "__main__":
    main()
