from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, pearsonr

from training.monitoring.exchangeability import (
    against_fixed,
    category_p_values,
    drawn_order,
    earlier_counts,
    growing_p_values,
    seeded,
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 12), max_size=60))
def test_earlier_entries_are_counted_as_one_by_one(codes: list[int]) -> None:
    below, equal = earlier_counts(np.array(codes, np.int64))
    assert below.tolist() == [sum(one < code for one in codes[:place]) for place, code in enumerate(codes)]
    assert equal.tolist() == [codes[:place].count(code) for place, code in enumerate(codes)]


def test_a_value_above_all_others_has_the_smallest_p_value() -> None:
    found = growing_p_values(np.array([1.0, 2.0, 3.0]), np.array([9.0, 0.0, 9.0]), np.array([1.0, 1.0, 0.5]))
    assert found.tolist() == [1 / 4, 1.0, (0 + 0.5 * 2) / 6]


def test_p_values_of_a_small_reference_are_uniform_and_independent() -> None:
    rng = np.random.default_rng(0)
    firsts, seconds = [], []
    for _ in range(2000):
        drawn = np.round(rng.normal(size=9), 1)  # with ties
        p = growing_p_values(drawn[:5], drawn[5:], rng.random(4))
        firsts.append(p[0])
        seconds.append(p[1])
    assert kstest(firsts, "uniform").pvalue > 0.01
    assert kstest(seconds, "uniform").pvalue > 0.01
    assert abs(pearsonr(firsts, seconds).statistic) < 0.06


def test_p_values_against_a_fixed_reference_share_its_error() -> None:
    rng = np.random.default_rng(3)
    pairs = np.array([against_fixed(rng.normal(size=5), rng.normal(size=2), rng.random(2)) for _ in range(2000)])
    assert pearsonr(*pairs.T).statistic > 0.1


def test_a_category_that_becomes_frequent_has_small_p_values() -> None:
    rng = np.random.default_rng(1)
    stream = np.array(["old"] * 300 + ["new"] * 60)
    p = category_p_values(stream, rng.random(len(stream)))
    assert kstest(p[:300], "uniform").pvalue > 0.01
    assert p[300:].max() < 60 / 300


def test_order_and_draws_are_the_same_in_every_run() -> None:
    keys = [f"{number}" for number in range(50)]
    assert drawn_order(keys).tolist() == [drawn_order([key])[0] for key in keys]
    assert drawn_order(keys).tolist() != sorted(drawn_order(keys).tolist())
    assert seeded("a").random(3).tolist() == seeded("a").random(6)[:3].tolist()
    assert seeded("a").random() != seeded("b").random()
