from __future__ import annotations

import numpy as np
import pytest

from training.monitoring.betting import (
    betting_functions,
    capital_after_change,
    confidence_sequence,
    excess_growth,
)


def test_every_bet_on_a_p_value_is_a_density() -> None:
    grid = (np.arange(100_000) + 0.5) / 100_000
    bets = betting_functions(grid)
    assert bets.min() > 0
    np.testing.assert_allclose(bets.mean(axis=1), 1, atol=1e-6)


def test_capital_is_the_mixture_of_bets_that_start_in_every_period() -> None:
    rng = np.random.default_rng(0)
    factors = rng.uniform(0.5, 1.6, (2, 6))
    periods = np.array([0, 0, 1, 3, 3, 4])
    shares, bets = 5, len(factors)
    seen, found = capital_after_change(np.log(factors), periods, shares)
    assert seen.tolist() == [0, 1, 3, 4]
    for period, log_capital in zip(seen, found, strict=True):
        last = int(np.searchsorted(periods, period, side="right"))
        expected = (shares - 1 - period) / shares
        for start in range(period + 1):
            first = int(np.searchsorted(periods, start))
            expected += sum(factors[b, first:last].prod() for b in range(bets)) / (shares * bets)
        assert np.exp(log_capital) == pytest.approx(expected)


def test_capital_without_a_change_reaches_its_limit_no_more_often_than_it_may() -> None:
    rng = np.random.default_rng(1)
    periods = np.arange(400) // 10
    reached = 0
    for _ in range(400):
        growth = np.log(betting_functions(rng.random(400)))
        reached += capital_after_change(growth, periods, 40)[1].max() >= np.log(1 / 0.2)
    assert reached <= 0.2 * 400


def test_a_change_late_in_a_quiet_stream_is_found() -> None:
    rng = np.random.default_rng(2)
    p = np.concatenate([rng.random(3000), rng.beta(1, 2, 400)])
    _, capital = capital_after_change(np.log(betting_functions(p)), np.arange(3400) // 100, 365)
    assert capital[:30].max() < np.log(1000)
    assert capital[-1] > np.log(1000)


def test_no_observation_is_no_evidence() -> None:
    assert not len(capital_after_change(np.zeros((4, 0)), np.zeros(0, np.int64), 10)[1])


@pytest.mark.parametrize(("mean", "rejects"), [(0.5, False), (0.7, True)])
def test_means_above_a_tolerance_are_rejected_and_others_are_not(mean: float, rejects: bool) -> None:
    values = (np.random.default_rng(3).random(3000) < mean).astype(float)
    evidence = np.logaddexp.reduce(np.cumsum(excess_growth(values, 0.55), axis=1), axis=0)
    assert (evidence.max() > np.log(1e4)) == rejects


def test_a_confidence_sequence_holds_the_mean_at_all_times() -> None:
    rng = np.random.default_rng(4)
    missed = 0
    for _ in range(100):
        found = confidence_sequence((rng.random(600) < 0.3).astype(float), 0.1, at=range(9, 600, 10))
        missed += bool(((found.low > 0.3) | (found.high < 0.3)).any())
        assert (np.diff(found.low) >= 0).all()
        assert (np.diff(found.high) <= 0).all()
    assert missed <= 15


@pytest.mark.parametrize(("value", "low", "high"), [(1.0, 0.95, 1.0), (0.0, 0.0, 0.05)])
def test_a_rate_at_an_end_has_bounds_there(value: float, low: float, high: float) -> None:
    found = confidence_sequence(np.full(5000, value), at=[10, 4999])
    assert low <= found.low[-1] <= found.high[-1] <= high
