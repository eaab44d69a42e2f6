"""How many threads the CPU's arithmetic takes."""

from __future__ import annotations

import os

import torch


def thread_count(threads: int | None = None) -> int:
    """`threads`; None: ``OMP_NUM_THREADS`` where it is set, else half of the cores that this process may use.

    Threads of one layer's arithmetic wait for each other, so a core held by another process stalls them all.
    `benchmarks/threads.py` on two cores: two threads took 0.61 of one thread's time alone, and 1.37 of it beside one
    busy process.
    """
    if threads is not None:
        return threads
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) > 0 else max(1, len(os.sched_getaffinity(0)) // 2)


def limit_threads(threads: int | None = None) -> int:
    """Set and give the number of threads of torch's arithmetic, for this process: `thread_count`."""
    count = thread_count(threads)
    torch.set_num_threads(count)
    return count
