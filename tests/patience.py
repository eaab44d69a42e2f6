"""How long tests wait for what must come.

What is waited for comes soon on any machine; only what never comes runs into `PATIENCE_S`. It says nothing of how fast
anything has to be: a machine that is busy with other things may take many times as long as one that is not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_S = 240.0

Found = TypeVar("Found")


def until(found: Callable[[], Found], what: str = "what was waited for") -> Found:
    """What `found` gives once that is true.

    Raises
    ------
    AssertionError
        Where it does not become true within `PATIENCE_S`.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not (value := found()):
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_S:g} s"
        time.sleep(0.02)
    return value


async def until_async(found: Callable[[], Found], what: str = "what was waited for") -> Found:
    """As `until`, while the event loop goes on."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := found()):
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_S:g} s"
        await asyncio.sleep(0.005)
    return value
