"""Ctrl+C, pressed as often as impatience wants: the first stops the work, the next do not break the tidying up."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_log = logging.getLogger(__name__)

_FORCED = 3
"""So many end the process however far it is."""


@contextmanager
def interrupted_once() -> Iterator[None]:
    """While this is open the first SIGINT raises `KeyboardInterrupt` and the second only says that it was heard.

    The third raises again, for a process that hangs. Outside of the main thread, which alone gets signals, and inside
    another one, this does nothing.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield
        return
    times = 0

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        nonlocal times
        times += 1
        if times in (1, _FORCED):
            raise KeyboardInterrupt
        _log.warning("stopping; once more ends it however far it is")

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
