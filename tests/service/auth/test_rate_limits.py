from __future__ import annotations

import pytest

from service.auth import rate_limits as rates
from service.auth.rate_limits import RateLimit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_minute_s_requests_may_come_at_once_and_then_one_by_one() -> None:
    clock = Clock()
    limit = RateLimit(30, clock)
    assert [limit.wait_s("a") for _ in range(30)] == [0] * 30
    assert limit.wait_s("a") == 2
    clock.now = 1.5
    assert limit.wait_s("a") == 1
    clock.now = 2.0
    assert limit.wait_s("a") == 0
    assert limit.wait_s("a") == 2


def test_callers_do_not_share_and_a_pause_gives_no_more_than_a_minute_s() -> None:
    clock = Clock()
    limit = RateLimit(2, clock)
    assert [limit.wait_s("a"), limit.wait_s("a"), limit.wait_s("b")] == [0, 0, 0]
    assert limit.wait_s("a") == 30
    clock.now = 3600.0
    assert [limit.wait_s("a") for _ in range(3)] == [0, 0, 30]


def test_what_costs_more_is_taken_at_once_and_paid_for_before_the_next() -> None:
    clock = Clock()
    limit = RateLimit(30, clock)
    assert limit.wait_s("a") == 0
    limit.charge("a", 34)
    limit.charge("b", 0)
    assert limit.wait_s("a") == 12, "five too many, and the one that comes"
    assert limit.wait_s("b") == 0
    clock.now = 12.0
    assert [limit.wait_s("a"), limit.wait_s("a")] == [0, 2]


def test_whoever_has_paused_for_a_minute_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_MOST_CALLERS", 3)
    clock = Clock()
    limit = RateLimit(1, clock)
    for number in range(3):
        limit.wait_s(f"early {number}")
    clock.now = 59.0
    limit.wait_s("late")
    assert len(limit._buckets) == 4, "none is full again yet"
    clock.now = 61.0
    assert limit.wait_s("later") == 0
    assert set(limit._buckets) == {"late", "later"}
    assert limit.wait_s("late") > 0
