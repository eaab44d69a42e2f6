"""How often one caller may ask: a token bucket each, in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

_MOST_CALLERS = 10_000
_MINUTE_S = 60.0


class RateLimit:
    """At most `per_minute` requests in a minute of each caller; after a pause, that many at once.

    Parameters
    ----------
    per_minute : int
    clock : callable
        Seconds that never go back.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = float(per_minute)
        self._per_second = per_minute / _MINUTE_S
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait_s(self, caller: str) -> int:
        """Take one request of `caller`: 0, or how many whole seconds it must wait, in which case none is taken."""
        now = self._clock()
        left = self._left(self._buckets.get(caller, (self._capacity, now)), now)
        if left < 1.0:
            self._buckets[caller] = (left, now)
            return math.ceil((1.0 - left) / self._per_second)
        if caller not in self._buckets and len(self._buckets) >= _MOST_CALLERS:
            self._forget(now)
        self._buckets[caller] = (left - 1.0, now)
        return 0

    def charge(self, caller: str, requests: int) -> None:
        """Take so many requests more of `caller`, who was let in already, even where that leaves less than none."""
        now = self._clock()
        left = self._left(self._buckets.get(caller, (self._capacity, now)), now)
        self._buckets[caller] = (left - requests, now)

    def _left(self, bucket: tuple[float, float], now: float) -> float:
        left, then = bucket
        return min(self._capacity, left + (now - then) * self._per_second)

    def _forget(self, now: float) -> None:
        """Drop full buckets, which mean the same as none; all are full a while after their last request."""
        self._buckets = {
            caller: bucket for caller, bucket in self._buckets.items() if self._left(bucket, now) < self._capacity
        }
