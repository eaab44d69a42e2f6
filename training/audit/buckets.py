"""Which items may be alike, without comparing each with each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Indices = npt.NDArray[np.int64]
Pairs = npt.NDArray[np.int64]
"""Items that belong together, [P, 2], the smaller index first, each pair once."""

_REACH = 256
"""Members of one bucket that each member is compared with: a larger bucket's copies are linked through others."""


def bucketed_pairs(keys: npt.NDArray[np.uint64]) -> Iterator[Pairs]:
    """Pairs of items that share a key in some table; a pair may come again from another table.

    Parameters
    ----------
    keys : uint64 [n, tables]
        Bucket of each item in each hash table (locality-sensitive hashing: Indyk and Motwani, STOC 1998).
    """
    for column in keys.T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) + 1
        sizes = np.diff(ends, prepend=0)
        followers = np.repeat(ends, sizes) - np.arange(len(order)) - 1
        start = np.flatnonzero(followers > 0)
        for step in range(1, _REACH + 1):
            start = start[followers[start] >= step]
            if not len(start):
                break
            yield np.sort(np.stack([order[start], order[start + step]], axis=1), axis=1)


def unique_pairs(pairs: list[Pairs], items: int) -> Pairs:
    """Each of `pairs` once, of that many `items`."""
    if not pairs:
        return np.zeros((0, 2), np.int64)
    joined = np.concatenate(pairs)
    codes = np.unique(joined[:, 0] * items + joined[:, 1])
    return np.stack([codes // items, codes % items], axis=1)


def linked(pairs: Pairs, items: int) -> Indices:
    """Number of the group that each item belongs to, [items]: who is linked to whom, directly or through others."""
    edges = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(items, items))
    return np.asarray(connected_components(edges, directed=False)[1], np.int64)
