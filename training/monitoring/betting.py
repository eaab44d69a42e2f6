"""Tests that may be looked at every day: capital won by betting against "nothing has changed".

Each bet is fair, or loses, as long as the null hypothesis holds; the chance that the capital, 1 at the start, ever
reaches 1/a is then at most a (Ville, 1939). How large it is says how strong the evidence is (an e-value).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_STAKES = (0.05, 0.1, 0.2, 0.4)
_CS_SHARES = np.array([0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64])
"""Of the largest stake at which a bet cannot lose more than the capital."""
_GRID = 201


def betting_functions(p_values: Floats) -> Floats:
    """What each bet on a p-value multiplies its capital by, [B, N].

    Every one is a density on [0, 1]: 1 + stake x polynomial, of the first two Legendre polynomials at unit norm. The
    first wins where values have become larger or smaller, the second where they are more or less spread.
    """
    u = 2 * p_values - 1
    location, spread = np.sqrt(3.0) * u, np.sqrt(5.0) * (1.5 * u**2 - 0.5)
    bets = [1 + sign * stake * one for one in (location, spread) for stake in _STAKES for sign in (1, -1)]
    return np.stack(bets)


def capital_after_change(
    log_growth: Floats, periods: npt.NDArray[np.int64], most_periods: int
) -> tuple[npt.NDArray[np.int64], Floats]:
    """The periods that have an observation, [P], and the logarithm of the capital after each, [P].

    It is that of a gambler who does not know when the change comes. One share of the capital is set aside for each
    period, divided among all bets, and put in when the period begins; what is not yet put in stays. It is a mixture of
    martingales that start one period after another, as in a Shiryaev-Roberts statistic, and a martingale itself: a
    quiet year costs nothing but the factor `most_periods`.

    Parameters
    ----------
    log_growth : float [B, N]
        Logarithm of what each bet multiplies its capital by.
    periods : int [N]
        Which period each observation is in, from 0, ascending and below `most_periods`.
    most_periods : int
        Into how many shares the capital is divided.
    """
    first = np.flatnonzero(np.diff(periods, prepend=-1))
    seen = periods[first]
    if not len(seen):
        return seen, np.zeros(0)
    gained = np.add.reduceat(log_growth, first, axis=1)
    grown = np.cumsum(gained, axis=1)
    # Periods without an observation start with the next one that has some.
    shares = np.log(np.diff(seen, prepend=-1))
    in_play = np.logaddexp.accumulate(shares - (grown - gained), axis=1) + grown
    left = most_periods - 1 - seen
    aside = np.where(left > 0, np.log(np.maximum(left, 1) / most_periods), -np.inf)
    return seen, np.logaddexp(np.logaddexp.reduce(in_play, axis=0) - np.log(most_periods * len(grown)), aside)


def excess_growth(values: Floats, tolerance: float) -> Floats:
    """Logarithms, [B, N], of bets against "each value, within [-1, 1], has a mean of at most `tolerance`"."""
    stakes = np.array(_STAKES)[:, None] / (1 + tolerance)
    return np.log1p(stakes * (values - tolerance))


@dataclass(frozen=True, slots=True)
class ConfidenceSequence:
    """Bounds that hold at all times together, with the confidence that was asked for.

    Attributes
    ----------
    mean, low, high : float [N]
        After each observation.
    """

    mean: Floats
    low: Floats
    high: Floats


def confidence_sequence(values: Floats, alpha: float = 0.05, at: npt.ArrayLike | None = None) -> ConfidenceSequence:
    """Of the mean of values within [0, 1], by betting (Waudby-Smith and Ramdas, JRSS B 2024).

    A mean m is ruled out once bets against it, half on larger and half on smaller, have multiplied their capital by
    1/`alpha`; the stakes are a fixed mixture. What was ruled out once stays out.

    Parameters
    ----------
    values : float [N]
    at : int [L] or None
        After which observations the bounds are given; None: after each.
    """
    grid = np.linspace(0, 1, _GRID)
    means = grid[1:-1]
    places = np.arange(len(values)) if at is None else np.asarray(at, np.int64)
    stakes = np.concatenate([_CS_SHARES / means[:, None], -_CS_SHARES / (1 - means[:, None])], axis=1)
    capital, best = np.zeros(stakes.shape), np.full(len(means), -np.inf)
    low, high, seen = [], [], 0
    for place in places.tolist():
        centred = values[seen : place + 1] - means[:, None]
        seen = place + 1
        capital += np.log1p(stakes[:, :, None] * centred[:, None, :]).sum(axis=2)
        best = np.maximum(best, np.logaddexp.reduce(capital, axis=1) - np.log(stakes.shape[1]))
        kept = np.flatnonzero(best < -np.log(alpha))
        if not len(kept):  # nearer to an end than the grid is fine
            kept = np.array([len(means) if values[: place + 1].mean() > 0.5 else -1])
        low.append(grid[max(kept[0], 0)])
        high.append(grid[min(kept[-1] + 2, _GRID - 1)])
    running = np.cumsum(values)[places] / (places + 1)
    return ConfidenceSequence(running, np.array(low), np.array(high))
