"""Decodes and answers stored studies, one at a time, and deletes those that are over.

As a study of a job does, it takes a place among the explanations only where one is free.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from service.audit_log.database import AuditLogUnavailable
from service.audit_log.entries import Origin
from service.audit_log.tasks.job_answers import Superseded
from service.batching import Closed
from service.http.deadlines import in_time
from service.http.problems import NotAnswered, Unavailable, problem, release_traceback
from service.jobs.runner import is_its_own
from service.serving.answering import Answering
from service.studies.answering_store import AnsweringStore, TakenStudy
from service.studies.decisions import Decisions
from service.studies.operations import Figures
from service.studies.reader_store import ReaderStore
from service.studies.stored_contents import stored_contents

logger = logging.getLogger("consilium.service")

Asked = ParamSpec("Asked")
Result = TypeVar("Result")

_THREADS = 4
_LOOK_EVERY_S = 2.0
"""How often another process's studies are looked for; its own wake it."""
_PURGE_EVERY_S = 60.0
_RETRY_S = 1.0
_MOST_ATTEMPTS = 3
"""How often a study is tried that fails through no fault of its own, before that is kept as its problem."""


class Studies:
    """The stored studies of one service. `start` before anything else, `stop` at the end, both within the event loop.

    Parameters
    ----------
    engine : Answering
        Decodes and answers; its recorder has been started.
    """

    def __init__(self, engine: Answering) -> None:
        self._engine = engine
        self.settings = engine.settings
        self.recorder = engine.recorder
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="studies")
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def reader_store(self) -> ReaderStore:
        """The studies as readers see them; see `ask`."""
        return ReaderStore(self.recorder.opened, self.settings)

    @property
    def decisions(self) -> Decisions:
        """What readers decide; see `ask`."""
        return Decisions(self.recorder.opened, self.settings)

    @property
    def figures(self) -> Figures:
        """What is counted of answers and reads; see `ask`."""
        return Figures(self.recorder.opened)

    @property
    def _store(self) -> AnsweringStore:
        return AnsweringStore(self.recorder.opened, self.settings)

    def start(self) -> None:
        """Begin to answer studies, where the service stores some."""
        if self.settings.studies:
            self._tasks = [asyncio.create_task(self._work_forever()), asyncio.create_task(self._purge_forever())]

    async def stop(self) -> None:
        """Give the study back that is under way, for another process or the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def wake(self) -> None:
        """There is a new study."""
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
            logger.warning("%s", error)
            raise Unavailable("The audit log is unavailable.", self.settings.retry_after_s) from None

    async def _work_forever(self) -> None:
        while True:
            self._news.clear()
            try:
                taken = await self._persist(self._store.take)
                if taken is not None:
                    await self._work(taken)
                    continue
            except Exception:
                # What it held stays its own until the lease is over.
                logger.exception("the work at a study broke off")
            try:
                await asyncio.wait_for(self._news.wait(), _LOOK_EVERY_S)
            except TimeoutError:
                continue

    async def _purge_forever(self) -> None:
        while True:
            try:
                await self._run(self.reader_store.purge)
            except AuditLogUnavailable as error:
                logger.warning("%s", error)
            except Exception:
                logger.exception("deleting expired studies broke off")
            await asyncio.sleep(_PURGE_EVERY_S)

    async def _work(self, taken: TakenStudy) -> None:
        """Answer a study, for as long as this process holds it."""
        renewing = asyncio.create_task(self._renew(taken))
        try:
            await self._answer(taken)
        except Superseded:
            logger.info("study %s was deleted, or is another process's now", taken.task.study_id)
        except asyncio.CancelledError:
            await self._release(taken)
            raise
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def _renew(self, taken: TakenStudy) -> None:
        while True:
            await asyncio.sleep(self.settings.job_lease_s / 3)
            await self._persist(self._store.renew, taken.task)

    async def _release(self, taken: TakenStudy) -> None:
        try:
            await self._run(self._store.release, taken.task)
        except (Superseded, AuditLogUnavailable):
            logger.warning("study %s goes on when its lease is over", taken.task.study_id)

    async def _answer(self, taken: TakenStudy) -> None:
        if taken.lost:
            await self._refuse(taken, NotAnswered(cancelled=False))
            return
        failures = 0
        while True:
            try:
                await self._attempt(taken)
            except (Unavailable, Closed) as error:
                release_traceback(error)
                await asyncio.sleep(_RETRY_S)
            except (asyncio.CancelledError, KeyboardInterrupt, SystemExit, Superseded):
                raise
            except BaseException as error:  # noqa: BLE001 - a compiled library's panic is no Exception
                failures += 1
                if failures < _MOST_ATTEMPTS and not is_its_own(error):
                    logger.warning("study %s is tried again: %s", taken.task.study_id, type(error).__name__)
                    release_traceback(error)
                    await asyncio.sleep(_RETRY_S)
                    continue
                await self._refuse(taken, error)
                return
            else:
                await self._persist(self._store.forget_form, taken.task)
                return

    async def _refuse(self, taken: TakenStudy, error: BaseException) -> None:
        document, _ = problem(error)
        await self._persist(self._store.refuse, taken.task, document.model_dump_json(exclude_none=True).encode())

    async def _attempt(self, taken: TakenStudy) -> None:
        engine, settings, task = self._engine, self.settings, taken.task
        form = await self._persist(self._store.form, task)
        async with in_time(settings.explanation_timeout_s, "The answer"):
            read = await engine.read(form)
        if not taken.decoded:
            await self._persist(self._store.keep_views, task, stored_contents(read), read.viewed)
        with await engine.explanations.free_place(awaited=False) as place:
            async with in_time(settings.explanation_timeout_s, "The answer"):
                await engine.explain(form, place, Origin(taken.caller, str(task.study_id), task=task), read)

    async def _persist(self, work: Callable[Asked, Result], *asked: Asked.args, **more: Asked.kwargs) -> Result:
        """What `work` gives, however long the audit log is away."""
        while True:
            try:
                return await self._run(lambda: work(*asked, **more))
            except AuditLogUnavailable as error:
                logger.warning("%s", error)
                await asyncio.sleep(_RETRY_S)

    async def _run(self, work: Callable[..., Result], *asked: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *asked)
