"""What a second thread brings on idle cores, and what it costs when another process is busy.

One training step of a small image encoder with one thread and with one per core, alone and beside a process that keeps
one core busy; each as a ratio against one thread alone.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager

STEP = """
import statistics, sys, time, torch
from consilium.encoders.image import ImageEncoder
from consilium.recipe import ImageRecipe
torch.set_num_threads(int(sys.argv[1]))
encoder = ImageEncoder(ImageRecipe(encoder="resnet18", size=128, width=16), 64)
images = torch.rand(32, 1, 1, 128, 128)
there, views = torch.ones(32, 1, dtype=torch.bool), torch.zeros(32, 1, dtype=torch.long)
times = []
for _ in range(8):
    start = time.perf_counter()
    encoder(images, there, views).values.sum().backward()
    times.append(time.perf_counter() - start)
print(statistics.median(times[2:]))
"""
ROUNDS = 3


@contextmanager
def _busy_core(wanted: bool):
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if wanted else None
    try:
        yield
    finally:
        if other is not None:
            other.kill()
            other.wait()


def _step(threads: int) -> float:
    done = subprocess.run([sys.executable, "-c", STEP, str(threads)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    cores = len(os.sched_getaffinity(0))
    cases = [(threads, busy) for busy in (False, True) for threads in (1, cores)]
    seconds: dict[tuple[int, bool], list[float]] = {case: [] for case in cases}
    started = time.perf_counter()
    for _ in range(ROUNDS):
        for threads, busy in cases:
            with _busy_core(busy):
                seconds[threads, busy].append(_step(threads))
    alone = statistics.median(seconds[1, False])
    print(f"{cores} cores, {ROUNDS} interleaved rounds, {time.perf_counter() - started:.0f} s")
    for threads, busy in cases:
        median = statistics.median(seconds[threads, busy])
        beside = "beside a busy process" if busy else "alone"
        share = median / alone
        print(f"{threads} thread(s) {beside:22} {1000 * median:8.1f} ms a step, {share:6.2f} of one thread alone")


if __name__ == "__main__":
    main()
