"""Conformal p-values of a sequence: is each value ordinary among all that came before it.

Where the reference and the stream are exchangeable, the smoothed p-values of the stream are independent and uniform
(Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005, theorem 8.2), however small the reference: it
holds because the bag grows with the stream. P-values against a reference that never grows share its sampling error;
after a year of answers that error alone is significant, which `against_fixed` is here to show.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def growing_p_values(reference: Floats, stream: Floats, ties: Floats) -> Floats:
    """Share of the bag that lies above each value of `stream`; the bag is `reference` and the stream so far.

    Parameters
    ----------
    reference : float [R]
    stream : float [N]
        In the order of time; no NaN in either.
    ties : float [N]
        Uniform on [0, 1], independent of the values: which share of the equal values, itself among them, counts.

    Returns
    -------
    float [N]
    """
    codes = np.unique(np.concatenate([reference, stream]), return_inverse=True)[1]
    below, equal = (counts[len(reference) :] for counts in earlier_counts(codes))
    before = len(reference) + np.arange(len(stream))
    return (before - below - equal + ties * (equal + 1)) / (before + 1)


def earlier_counts(codes: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How many earlier entries are smaller than each of `codes` [N], from 0, and how many equal it.

    A radix sort from the highest bit, stable, that counts on its way: at each bit, the entries that share all higher
    bits and have this one pass those before them that lack it.
    """
    place = np.arange(len(codes))
    below, order = np.zeros(len(codes), np.int64), place
    for bit in reversed(range(int(codes.max(initial=0)).bit_length())):
        here = codes[order]
        upper = here >> bit & 1
        begins = np.flatnonzero(np.diff(here >> bit + 1, prepend=-1))
        lengths = np.diff(begins, append=len(codes))
        start = np.repeat(begins, lengths)
        lower = np.concatenate([[0], np.cumsum(1 - upper)])
        lower_before = lower[:-1] - lower[start]
        below[order] += upper * lower_before
        all_lower = np.repeat(lower[begins + lengths] - lower[begins], lengths)
        target = start + np.where(upper == 1, all_lower + place - start - lower_before, lower_before)
        moved = np.empty_like(order)
        moved[target] = order
        order = moved
    begins = np.flatnonzero(np.diff(codes[order], prepend=-1))
    equal = np.empty_like(below)
    equal[order] = place - np.repeat(begins, np.diff(begins, append=len(codes)))
    return below, equal


def category_p_values(stream: npt.NDArray[np.str_], ties: Floats) -> Floats:
    """Share of the stream so far whose category is rarer in it than that of each member of `stream`, [N].

    A category that is new or has become more frequent than it was gives small p-values until it is ordinary.
    """
    names, here = np.unique(stream, return_inverse=True)
    counts = np.cumsum(np.eye(len(names), dtype=np.int32)[here], axis=0)
    own = counts[np.arange(len(here)), here][:, None]
    rarer = (counts * (counts < own)).sum(axis=1)
    equal = (counts * (counts == own)).sum(axis=1)
    return (rarer + ties * equal) / counts.sum(axis=1)


def against_fixed(reference: Floats, stream: Floats, ties: Floats) -> Floats:
    """As `growing_p_values` with a bag that stays the reference: not independent, and no alarm may rest on them."""
    bag = np.sort(reference)
    not_above = np.searchsorted(bag, stream, side="right")
    equal = not_above - np.searchsorted(bag, stream, side="left") + 1
    return (len(bag) - not_above + ties * equal) / (len(bag) + 1)


def drawn_order(keys: Iterable[str]) -> npt.NDArray[np.uint64]:
    """A number for each of `keys`, which were drawn at random when the answers were given: no order of time in it."""
    digests = (hashlib.sha256(key.encode()).digest() for key in keys)
    return np.array([int.from_bytes(digest[:8]) for digest in digests], np.uint64)


def seeded(name: str) -> np.random.Generator:
    """Draws of a stream that are the same in every run, and go on where it goes on."""
    return np.random.default_rng(np.frombuffer(hashlib.sha256(name.encode()).digest(), "<u4"))
