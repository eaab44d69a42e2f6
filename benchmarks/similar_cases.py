"""How fast similar cases are found among many, and how many of the nearest ones.

``python benchmarks/similar_cases.py [--sizes 10000,100000,1000000] [--width 64]``

Vectors in clusters, as a model's states are; queries are vectors with a little noise. For each size: seconds to build,
MiB of cells beside the vectors, share of the ten nearest that are found, and milliseconds of a search by cells and of a
comparison one by one, in turn in one run, with their ratio. One thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
from _options import read_options

from consilium.explain.vector_index import Floats, VectorIndex
from consilium.system.memory import peak_memory

_QUERIES, _NEAREST = 100, 10
_AT_ONCE = 100_000


def vectors(count: int, width: int) -> Floats:
    """64 clusters whose directions of spread are of very different size."""
    rng = np.random.default_rng(0)
    middles, spread = rng.normal(size=(64, width)), rng.normal(size=(width, width)) * np.geomspace(0.25, 0.005, width)
    found = np.empty((count, width), np.float32)
    for start in range(0, count, _AT_ONCE):
        rows = min(_AT_ONCE, count - start)
        found[start : start + rows] = middles[rng.integers(0, 64, rows)] + rng.normal(size=(rows, width)) @ spread
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found.astype(np.float16).astype(np.float32)


def measure(count: int, width: int) -> dict[str, float]:
    values = vectors(count, width)
    begun = time.perf_counter()
    index = VectorIndex.build(values)
    built = time.perf_counter() - begun
    exact = VectorIndex(values)
    rng = np.random.default_rng(1)
    seconds = {"index": [], "exact": []}
    found = 0
    for row in rng.integers(0, count, _QUERIES):
        asked = values[row] + 0.02 * rng.normal(size=width).astype(np.float32)
        rows = {}
        for name, one in (("index", index), ("exact", exact)):
            begun = time.perf_counter()
            rows[name] = set(one.nearest(asked, _NEAREST)[0].tolist())
            seconds[name].append(time.perf_counter() - begun)
        found += len(rows["index"] & rows["exact"])
    medians = {name: float(np.median(every)) * 1e3 for name, every in seconds.items()}
    return {
        "built_s": built,
        "cells_mib": sum(one.nbytes for one in index.tensors().values()) / 2**20,
        "recall": found / (_QUERIES * _NEAREST),
        **{f"{name}_ms": value for name, value in medians.items()},
        "ratio": medians["index"] / medians["exact"],
        "peak_mib": peak_memory() / 2**20,
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--width", type=int, default=64)
    given = read_options(parser, argv, sizes="2000", width=16)
    print("| vectors | built, s | cells, MiB | of the ten nearest | search, ms | one by one, ms | ratio | peak, MiB |")
    print("| --- " * 8 + "|")
    for size in map(int, given.sizes.split(",")):
        one = measure(size, given.width)
        print(
            f"| {size:,} | {one['built_s']:.1f} | {one['cells_mib']:.0f} | {one['recall']:.3f} | {one['index_ms']:.2f} "
            f"| {one['exact_ms']:.2f} | {one['ratio']:.2f} | {one['peak_mib']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
