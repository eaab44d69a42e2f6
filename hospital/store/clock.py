"""Time as it is injected: whatever waits or compares times takes a `Clock`, so that tests move it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Gives the moment, in UTC."""


def system_clock() -> datetime:
    return datetime.now(UTC)
