"""How many threads the CPU's arithmetic takes."""

from __future__ import annotations

import os

import torch


def limit_threads(threads: int | None = None) -> int:
    """Set and give the number of threads of torch's arithmetic, for this process.

    `threads` None takes ``OMP_NUM_THREADS`` where it is set, else half of the cores this process may use: these threads
    wait for each other at every layer, so a core held by another process stalls them all. `benchmarks/threads.py` on
    two cores: two threads took 0.61 of one thread's time alone, and 1.37 of it beside one busy process.
    """
    if threads is None:
        given = os.environ.get("OMP_NUM_THREADS", "")
        threads = int(given) if given.isdecimal() and int(given) > 0 else max(1, len(os.sched_getaffinity(0)) // 2)
    torch.set_num_threads(threads)
    return threads
