"""Ctrl+C, pressed as often as impatience wants, and SIGTERM: the first stops the work, the next leave its end whole."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_log = logging.getLogger(__name__)

_FORCED = 3
"""So many end the process however far it is."""


@contextmanager
def interrupted_once() -> Iterator[None]:
    """While this is open the first SIGINT or SIGTERM raises `KeyboardInterrupt` and the second is only logged.

    The third raises again, for a process that hangs. Outside of the main thread, which alone gets signals, and inside
    another one, this does nothing. A SIGTERM that the process handles or ignores is left as it is.
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

    handled: dict[signal.Signals, Any] = {signal.SIGINT: before}
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # a scheduler's way to stop a job
        handled[signal.SIGTERM] = signal.SIG_DFL
    for which in handled:
        signal.signal(which, handle)
    try:
        yield
    finally:
        for which, handler in handled.items():
            signal.signal(which, handler)
