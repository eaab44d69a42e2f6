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
import os
import random
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import UTC, datetime

from service.audit_log.deployment_log import LOADED, REMOVED, ModelEvent, NoteEvent
from service.observability.metrics import Metrics
from service.serving import garbage_collection as garbage
from service.serving.served_model import Model, Role

logger = logging.getLogger("consilium.service")

_JITTER = 0.1
"""Share of the poll's interval by which it varies, so that services started together do not ask together."""

_NICENESS = 10


class LiveModel:
    """The model in one role; None while there is none.

    Parameters
    ----------
    follow : callable, optional
        Given the model that is loaded, blocks and gives the one to go on with. Without it the model never changes.
    thread : Executor
        The model's own thread, on which it is replaced.
    note : callable, optional
        Told of every replacement.
    """

    def __init__(
        self,
        role: Role,
        follow: Callable[[Model | None], Model | None] | None,
        thread: Executor,
        metrics: Metrics,
        poll_s: float,
        note: NoteEvent | None = None,
    ) -> None:
        self.role = role
        self.current: Model | None = None
        self.since: datetime | None = None
        self._follow = follow
        self._thread = thread
        self._metrics = metrics
        self._poll_s = poll_s
        self._note = note
        self._loader = ThreadPoolExecutor(1, thread_name_prefix=f"{role}-loader", initializer=give_way)
        self._polling = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None

    def begin(self, model: Model | None = None) -> None:
        """Serve `model`, and ask for the next one from now on; at once where there is none.

        Call within the event loop.
        """
        if model is not None:
            self._replace(model)
        if self._follow is not None:
            self._following = asyncio.create_task(self._follow_on())

    async def stop(self) -> None:
        """Ask no more, and let go of the model."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        self._loader.shutdown(wait=False, cancel_futures=True)
        self.current = None

    async def poll(self) -> None:
        """Ask once which model to go on with, and replace the one that is loaded where it is another."""
        if self._follow is None:
            return
        loop = asyncio.get_running_loop()
        async with self._polling:
            model = await loop.run_in_executor(self._loader, self._follow, self.current)
            if model is not self.current:
                await loop.run_in_executor(self._thread, self._replace, model)

    async def _follow_on(self) -> None:
        while True:
            if self.current is not None:
                await self._wait()
            try:
                await self.poll()
            except Exception:
                logger.exception("%s: looking for a newer model failed; the next poll tries again", self.role)
            if self.current is None:
                await self._wait()

    async def _wait(self) -> None:
        await asyncio.sleep(self._poll_s * random.uniform(1 - _JITTER, 1 + _JITTER))

    def _replace(self, model: Model | None) -> None:
        old, self.current = self.current, model
        self.since = None if model is None else datetime.now(UTC)
        self._metrics.loaded(
            self.role, None if model is None else model.identity, None if old is None else old.identity
        )
        changed = model or old
        if self._note is not None and changed is not None:
            self._note(ModelEvent(self.role.value, REMOVED if model is None else LOADED, changed.identity))
        if model is None:
            logger.info("%s: no model any more", self.role)
        else:
            logger.info("%s: %s version %s", self.role, model.identity.name, model.identity.version)
        if old is not None:
            # Whoever holds it last may be the event loop, which has better things to do.
            weakref.finalize(old, self._release, garbage.take_back()).atexit = False

    def _release(self, was_set_aside: bool) -> None:
        with contextlib.suppress(RuntimeError):  # the service has stopped
            self._loader.submit(_return_memory)
            if was_set_aside:
                self._loader.submit(garbage.set_aside, collect=False)


def give_way() -> None:
    """Let this thread, and those that it starts, run behind all others: setpriority(2) takes a thread on Linux."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _return_memory() -> None:
    """Give what a freed model held back to the machine: torch and the C library keep it otherwise."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc
    if trim is not None:
        trim(0)
