"""Curves: what isotonic regression and Venn-Abers make of scaled log-odds.

Both know only the order of the scores, so as such they are steps: an explanation would find a slope of 0 nearly
everywhere, and two studies that differ in the last digit could get different answers. So a step becomes a point at the
mean score of its studies, and the curve is straight, in log-odds, between these points (centred isotonic regression:
Oron and Flournoy, Statistics in Biopharmaceutical Research 2017). Beyond the outermost points, where there is no order
left to know, it goes on as the scaling does. A curve rises everywhere, so it has a slope everywhere and no two scores
become one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from consilium.calibration.venn_abers import Ordered, venn_abers
from consilium.domain.errors import InputError

Floats = npt.NDArray[np.float64]

_DIGITS = 2
"""Of scaled log-odds. What is nearer than that has no order worth knowing, and large splits are fitted faster."""

_LEAST_STEP = 0.1
"""Log-odds between two points of a curve. Nearer ones become one, or the slope between them would be chance."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A rising map of log-odds to log-odds: straight between its points, parallel to the diagonal beyond them.

    Attributes
    ----------
    before, after : tuple of float, [K]
        Rising.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]

    def __call__(self, log_odds: Floats) -> Floats:
        """Calibrated log-odds, of the shape of `log_odds`; NaN stays NaN."""
        inside = np.interp(log_odds, self.before, self.after)
        beyond = np.minimum(log_odds - self.before[0], 0) + np.maximum(log_odds - self.before[-1], 0)
        return inside + beyond

    def to_json(self) -> dict[str, Any]:
        return {"before": list(self.before), "after": list(self.after)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Curve:
        return cls(tuple(data["before"]), tuple(data["after"]))

    def require_sound(self, name: str) -> None:
        """`InputError` unless the points rise; `name` is how the error calls the curve."""
        points = [self.before, self.after]
        if not self.before or len(self.before) != len(self.after) or not np.isfinite(points).all():
            raise InputError(name, len(self.before), "must be as many finite values before as after")
        if (np.diff(points, axis=1) <= 0).any():
            raise InputError(name, len(self.before), "must rise")


def isotonic_curve(scores: Floats, positive: npt.NDArray[np.bool_], weight: float = 1.0) -> Curve:
    """Isotonic regression (pool adjacent violators; Zadrozny and Elkan, KDD 2002) of `positive` [N] on `scores` [N].

    One more study is put at either end, a positive one below all scores and a negative one above: no group of studies
    is so uniform that the next could not be another.

    Parameters
    ----------
    weight : float
        How many rows one study is worth: the rows of a study with several subsets are not independent.
    """
    from scipy.optimize import isotonic_regression  # fits alone need it, and a model that is loaded pays nothing for it

    ordered = Ordered.of(np.round(scores, _DIGITS), positive)
    counts = np.concatenate([[weight], ordered.counts, [weight]])
    hits = np.concatenate([[weight], ordered.positives, [0.0]])
    fitted = isotonic_regression(hits / counts, weights=counts).x[1:-1]
    return _through(ordered, fitted)


def venn_abers_curve(scores: Floats, positive: npt.NDArray[np.bool_], weight: float = 1.0) -> Curve:
    """The probability p1 / (1 - p0 + p1), between Venn-Abers' two (Vovk and Petej, UAI 2014); else `isotonic_curve`."""
    ordered = Ordered.of(np.round(scores, _DIGITS), positive)
    p0, p1 = venn_abers(ordered, weight)
    # Both rise; rounding may say otherwise in the last digit.
    return _through(ordered, np.maximum.accumulate(p1 / (1 - p0 + p1)))


def _through(ordered: Ordered, probabilities: Floats) -> Curve:
    """The curve through the middle of each step of `probabilities` at the ordered scores."""
    starts = np.flatnonzero(np.append(True, np.diff(probabilities) > 1e-9))
    mass = np.add.reduceat(ordered.counts, starts)
    centres = np.add.reduceat(ordered.counts * ordered.scores, starts) / mass
    points: list[list[float]] = []
    for centre, value, weight in zip(centres.tolist(), probabilities[starts].tolist(), mass.tolist(), strict=True):
        if points and centre - points[-1][0] < _LEAST_STEP:
            last = points[-1]
            share = weight / (last[2] + weight)
            points[-1] = [last[0] + share * (centre - last[0]), last[1] + share * (value - last[1]), last[2] + weight]
        else:
            points.append([centre, value, weight])
    before, after, _ = zip(*points, strict=True)
    return Curve(tuple(before), tuple(logit(np.asarray(after)).tolist()))
