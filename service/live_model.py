"""A model that may be replaced while it serves.

The poll task asks, off the event loop, whether there is a newer model; that one is loaded and tried beside the serving
one, on a thread of its own. It takes over on the model's thread, so between two batches. Cases that were prepared for
the old model hold it until they are answered; with the last of them it is freed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import random
import sys
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import UTC, datetime

from service.metrics import Metrics
from service.model import Model

logger = logging.getLogger("consilium.service")

_JITTER = 0.1
"""Share of the poll's interval by which it varies, so that services started together do not ask together."""


class LiveModel:
    """The model that answers in one role.

    Parameters
    ----------
    role : str
        What it is for, in metrics and logs.
    newer : callable, optional
        Given the serving model, blocks and gives the one to replace it, or None. Without it the model never changes.
    thread : Executor
        The model's own thread, on which it is replaced.
    """

    def __init__(
        self,
        role: str,
        newer: Callable[[Model], Model | None] | None,
        thread: Executor,
        metrics: Metrics,
        poll_s: float,
    ) -> None:
        self.role = role
        self.current: Model | None = None
        self.since: datetime | None = None
        self._newer = newer
        self._thread = thread
        self._metrics = metrics
        self._poll_s = poll_s
        self._loader = ThreadPoolExecutor(1, thread_name_prefix=f"{role}-loader")
        self._following: asyncio.Task[None] | None = None

    def begin(self, model: Model) -> None:
        """Serve `model`, and from now on ask for newer ones. Call within the event loop."""
        self._replace(model)
        if self._newer is not None:
            self._following = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Ask no more, and let go of the model."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        self._loader.shutdown(wait=False, cancel_futures=True)
        self.current = None

    async def poll(self) -> None:
        """Ask once for a newer model, and replace the serving one by it where there is."""
        if self._newer is None or self.current is None:
            return
        loop = asyncio.get_running_loop()
        model = await loop.run_in_executor(self._loader, self._newer, self.current)
        if model is not None:
            await loop.run_in_executor(self._thread, self._replace, model)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s * random.uniform(1 - _JITTER, 1 + _JITTER))
            try:
                await self.poll()
            except Exception:
                logger.exception("%s: looking for a newer model failed; the next poll tries again", self.role)

    def _replace(self, model: Model) -> None:
        old, self.current = self.current, model
        self.since = datetime.now(UTC)
        self._metrics.loaded(self.role, model.identity, None if old is None else old.identity)
        logger.info("%s: %s version %s serves", self.role, model.identity.name, model.identity.version)
        if old is not None:
            # Whoever holds it last may be the event loop, which has better things to do.
            weakref.finalize(old, self._release).atexit = False

    def _release(self) -> None:
        with contextlib.suppress(RuntimeError):  # the service has stopped
            self._loader.submit(_return_memory)


def _return_memory() -> None:
    """Give what a freed model held back to the machine: torch and the C library keep it otherwise."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc
    if trim is not None:
        trim(0)
