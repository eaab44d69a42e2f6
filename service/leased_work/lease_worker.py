"""Works at what was handed over, one row at a time, and deletes what is over."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar

from consilium.domain.errors import DecodersDied, InputError
from service.audit_log.database import AuditLogUnavailable
from service.audit_log.tasks.leases import Superseded
from service.batching import Closed
from service.http.problems import NotOffered, Unavailable, release_traceback
from service.leased_work.lease_store import Held, LeaseStore
from service.serving.answering import Answering

logger = logging.getLogger("consilium.service")

Asked = ParamSpec("Asked")
Result = TypeVar("Result")
Taken = TypeVar("Taken", bound=Held)

_THREADS = 4
_LOOK_EVERY_S = 2.0
"""How often what another process was handed is looked for; its own wakes it."""
_PURGE_EVERY_S = 60.0
_RETRY_S = 1.0
"""After how long a study is tried again that met a busy service or audit log."""
_MOST_ATTEMPTS = 3
"""How often a study is tried that fails through no fault of its own, before that is kept as its problem."""


class LeaseWorker(ABC, Generic[Taken]):
    """`start` before anything else, `stop` at the end, both within the event loop.

    Parameters
    ----------
    engine : Answering
        Answers the studies; its recorder has been started.
    """

    kind: ClassVar[str]
    """In the log: ``job``."""

    def __init__(self, engine: Answering) -> None:
        self._engine = engine
        self.settings = engine.settings
        self.recorder = engine.recorder
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=self.kind)
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to work."""
        self._tasks = [asyncio.create_task(self._work_forever()), asyncio.create_task(self._purge_forever())]

    async def stop(self) -> None:
        """Give back what is under way, for another process or the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def wake(self) -> None:
        """Something new was handed over."""
        self._news.set()

    async def ask(self, work: Callable[Asked, Result], *asked: Asked.args, **more: Asked.kwargs) -> Result:
        """What `work` of a store gives, on a thread.

        Raises
        ------
        Unavailable
            Where the audit log is down.
        """
        try:
            return await self._run(lambda: work(*asked, **more))
        except AuditLogUnavailable as error:
            logger.error("%s", error)
            raise Unavailable("The audit log is unavailable.", self.settings.retry_after_s) from None

    @property
    @abstractmethod
    def _store(self) -> LeaseStore[Any, Taken]:
        """From what is taken."""

    @abstractmethod
    async def _answer(self, taken: Taken) -> None:
        """Answer what was taken, and let go of it."""

    @abstractmethod
    async def _give_up(self, taken: Taken) -> None:
        """End what processes have died at."""

    @abstractmethod
    def _purge(self) -> object:
        """Delete what is over; on a thread."""

    async def _next(self) -> Taken | None:
        return await self._run(self._store.take)

    async def _work_forever(self) -> None:
        while True:
            self._news.clear()
            try:
                taken = await self._next()
                if taken is not None:
                    await self._work(taken)
                    continue
            except AuditLogUnavailable as error:
                logger.warning("%s", error)
            except Exception:
                # What it held stays its own until the lease is over.
                logger.exception("the work at a %s broke off", self.kind)
            try:
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _purge_forever(self) -> None:
        while True:
            try:
                await self._run(self._purge)
            except AuditLogUnavailable as error:
                logger.warning("%s", error)
            except Exception:
                logger.exception("deleting what is over broke off")
            await asyncio.sleep(_PURGE_EVERY_S)

    async def _work(self, taken: Taken) -> None:
        """Answer what was taken, for as long as this process holds it."""
        try:
            try:
                async with asyncio.TaskGroup() as group:
                    renewing = group.create_task(self._renew(taken))
                    await (self._give_up(taken) if taken.lost else self._answer(taken))
                    renewing.cancel()
            except* Superseded:
                logger.info("%s %s has ended, or is another process's now", self.kind, taken.key)
        except asyncio.CancelledError:
            await self._release(taken)
            raise

    async def _renew(self, taken: Taken) -> None:
        while True:
            await asyncio.sleep(self.settings.job_lease_s / 3)
            await self._persist(lambda: self._store.renew(taken))

    async def _release(self, taken: Taken) -> None:
        try:
            await self._run(lambda: self._store.release(taken))
        except (Superseded, AuditLogUnavailable):
            logger.warning("%s %s goes on when its lease is over", self.kind, taken.key)

    async def _with_retries(self, attempt: Callable[[], Awaitable[object]], key: object) -> BaseException | None:
        """Try `attempt` until it succeeds, or fails because of what was sent; why, where it did."""
        failures = 0
        while True:
            try:
                await attempt()
            except (Unavailable, Closed) as error:
                release_traceback(error)
            except (asyncio.CancelledError, KeyboardInterrupt, SystemExit, Superseded):
                raise
            except BaseException as error:  # noqa: BLE001 - a compiled library's panic is no Exception
                failures += 1
                if failures == _MOST_ATTEMPTS or _is_its_own(error):
                    return error
                logger.warning("a study of %s %s is tried again: %s", self.kind, key, type(error).__name__)
                release_traceback(error)
            else:
                return None
            await asyncio.sleep(_RETRY_S)

    async def _persist(self, work: Callable[Asked, Result], *asked: Asked.args, **more: Asked.kwargs) -> Result:
        """What `work` gives, however long the audit log is away."""
        while True:
            try:
                return await self._run(lambda: work(*asked, **more))
            except AuditLogUnavailable as error:
                logger.warning("%s", error)
                await asyncio.sleep(_RETRY_S)

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _is_its_own(error: BaseException) -> bool:
    """Whether the study itself has caused `error`; decoders may have been killed by something else."""
    return isinstance(error, InputError | NotOffered) and not isinstance(error, DecodersDied)
