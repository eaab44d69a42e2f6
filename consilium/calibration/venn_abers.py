"""Venn-Abers: two isotonic regressions, one as if the study at hand were a negative, one as if it were a positive.

Source: Vovk and Petej, Venn-Abers predictors, UAI 2014; the two passes over the corners of the cumulative sum diagram
are algorithms 1 to 4 of Vovk, Petej and Fedorova, Large-scale probabilistic predictors with and without guarantees of
validity, NeurIPS 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import InputError

Floats = npt.NDArray[np.float64]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Ordered:
    """Studies by score, those of one score together.

    Attributes
    ----------
    scores : float [K]
        Rising.
    counts, positives : float [K]
        Studies and positive studies of each score.
    """

    scores: Floats
    counts: Floats
    positives: Floats

    @classmethod
    def of(cls, scores: Floats, positive: npt.NDArray[np.bool_]) -> Ordered:
        """From scores [N], finite, and labels [N]."""
        distinct, place = np.unique(scores, return_inverse=True)
        counts = np.bincount(place, minlength=len(distinct)).astype(np.float64)
        positives = np.bincount(place, positive, len(distinct)).astype(np.float64)
        return cls(distinct, counts, positives)


@dataclass(frozen=True, slots=True)
class Bounds:
    """p0 and p1 as steps of the score.

    Attributes
    ----------
    low_from : tuple of float, [I]
        Scores from which on p0 is the next of `low`.
    low : tuple of float, [I + 1]
    high_above : tuple of float, [J]
        Scores above which p1 is the next of `high`.
    high : tuple of float, [J + 1]
    """

    low_from: tuple[float, ...]
    low: tuple[float, ...]
    high_above: tuple[float, ...]
    high: tuple[float, ...]

    def __call__(self, scores: Floats) -> tuple[Floats, Floats]:
        """p0 and p1, of the shape of `scores`; NaN stays NaN."""
        p0 = np.asarray(self.low)[np.searchsorted(self.low_from, scores, side="right")]
        p1 = np.asarray(self.high)[np.searchsorted(self.high_above, scores, side="left")]
        absent = np.isnan(scores)
        return np.where(absent, np.nan, p0), np.where(absent, np.nan, p1)

    def to_json(self) -> dict[str, Any]:
        return {name: list(getattr(self, name)) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Bounds:
        return cls(*(tuple(data[name]) for name in cls.__slots__))

    def require_sound(self, name: str) -> None:
        """`InputError` unless both are rising steps of probabilities; `name` is how the error calls them."""
        for part, edges, values in (("low", self.low_from, self.low), ("high", self.high_above, self.high)):
            if len(values) != len(edges) + 1 or not np.isfinite([*edges, *values]).all():
                raise InputError(f"{name}.{part}", len(values), "must be finite, one value more than there are steps")
            if (np.diff(edges) <= 0).any() or (np.diff(values) < 0).any() or values[0] < 0 or values[-1] > 1:
                raise InputError(f"{name}.{part}", len(values), "must rise from 0 or more to 1 or less")


NOTHING_KNOWN = Bounds((), (0.0,), (), (1.0,))
"""The bounds that rest on no study."""


def fit_bounds(scores: Floats, positive: npt.NDArray[np.bool_]) -> Bounds:
    """p0 and p1 of every score that a study may have, by studies with `scores` [N] and labels `positive` [N].

    Between two scores of the studies p0 is that of the lower and p1 that of the higher one; p0 is 0 below all of them,
    p1 is 1 above.
    """
    if not len(scores):
        return NOTHING_KNOWN
    ordered = Ordered.of(scores, positive)
    # Both rise within [0, 1]; rounding may say otherwise in the last digit.
    p0, p1 = (np.clip(np.maximum.accumulate(values), 0.0, 1.0) for values in venn_abers(ordered))
    low, high = np.append(0.0, p0), np.append(p1, 1.0)
    steps = [np.flatnonzero(np.diff(values) > 0) for values in (low, high)]
    edges = [tuple(ordered.scores[step].tolist()) for step in steps]
    values = [(values[0].item(), *values[step + 1].tolist()) for values, step in zip((low, high), steps, strict=True)]
    return Bounds(edges[0], values[0], edges[1], values[1])


def venn_abers(ordered: Ordered, weight: float = 1.0) -> tuple[Floats, Floats]:
    """p0 and p1 of a further study of each score, [K] each.

    Parameters
    ----------
    weight : float
        What the further study counts.
    """
    p1 = _as_positive(ordered.counts.tolist(), ordered.positives.tolist(), weight)
    negatives = ordered.counts - ordered.positives
    mirrored = _as_positive(ordered.counts[::-1].tolist(), negatives[::-1].tolist(), weight)
    return 1 - np.asarray(mirrored[::-1]), np.asarray(p1)


def _as_positive(counts: list[float], positives: list[float], weight: float) -> list[float]:
    """p1 of each score: the slope of the cumulative sum diagram's convex minorant where the further positive stands.

    The diagram begins with the further study, left of all others; then score by score moves in front of it, and only
    the corners near it have to be found anew.
    """
    points: list[Point] = [(-weight, -weight), (0.0, 0.0)]
    for count, hits in zip(counts, positives, strict=True):
        points.append((points[-1][0] + count, points[-1][1] + hits))
    corners = points[:2]
    for point in points[2:]:
        while len(corners) > 1 and not _turns_left(corners[-2], corners[-1], point):
            corners.pop()
        corners.append(point)
    corners.reverse()
    slopes = []
    for i in range(1, len(points) - 1):
        top, following = corners[-1], corners[-2]
        slopes.append((following[1] - top[1]) / (following[0] - top[0]))
        before, at, after = points[i - 1 : i + 2]
        moved = (before[0] + after[0] - at[0], before[1] + after[1] - at[1])
        points[i] = moved
        if not _turns_left(top, moved, following):
            continue
        corners.pop()
        while len(corners) > 1 and not _turns_left(moved, corners[-1], corners[-2]):
            corners.pop()
        corners.append(moved)
    return slopes


def _turns_left(first: Point, second: Point, third: Point) -> bool:
    """Whether the way over three points turns left at the second, which then lies below the straight way."""
    ahead = (second[0] - first[0]) * (third[1] - second[1])
    return ahead > (second[1] - first[1]) * (third[0] - second[0])
