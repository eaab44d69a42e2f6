"""Answers jobs, one at a time, with few studies in the queue of the diagnoses at once; and deletes those that are over.

A study of a job takes a place only where one is free, and no batch waits for it, so that whoever asks for one study
waits no longer than for one more study in his batch, or for one explanation.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import ParamSpec, TypeVar

from consilium.domain.errors import DecodersDied, InputError
from service.audit_log.database import AuditLogUnavailable
from service.audit_log.entries import Origin, Task
from service.audit_log.tasks.job_answers import Superseded
from service.batching import Closed
from service.http.deadlines import in_time
from service.http.multipart import Form
from service.http.problems import NotOffered, Unavailable, problem, release_traceback
from service.jobs.caller_store import CallerStore
from service.jobs.worker_store import Taken, WorkerStore
from service.serving.answering import Answering

logger = logging.getLogger("consilium.service")

Asked = ParamSpec("Asked")
Result = TypeVar("Result")

_THREADS = 4
_LOOK_EVERY_S = 2.0
"""How often another process's jobs are looked for; its own wake it."""
_PURGE_EVERY_S = 60.0
_RETRY_S = 1.0
"""After how long a study is tried again that met a busy service or audit log."""
_MOST_ATTEMPTS = 3
"""How often a study is tried that fails through no fault of its own, before that is kept as its problem."""


class Jobs:
    """The jobs of one service. `start` before anything else, `stop` at the end, both within the event loop.

    Parameters
    ----------
    engine : Answering
        Answers the studies; its recorder has been started.
    """

    def __init__(self, engine: Answering) -> None:
        self._engine = engine
        self.settings = self._settings = engine.settings
        self.recorder = engine.recorder
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="jobs")
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def caller_store(self) -> CallerStore:
        """The jobs as callers see them; see `ask`."""
        return CallerStore(self._engine.recorder.opened, self._settings)

    @property
    def _worker_store(self) -> WorkerStore:
        return WorkerStore(self._engine.recorder.opened, self._settings)

    def start(self) -> None:
        """Begin to answer jobs."""
        self._tasks = [asyncio.create_task(self._work_forever()), asyncio.create_task(self._purge_forever())]

    async def stop(self) -> None:
        """Give the job back that is under way, for another process or the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def wake(self) -> None:
        """There is a new job."""
        self._news.set()

    async def ask(self, work: Callable[Asked, Result], *asked: Asked.args, **more: Asked.kwargs) -> Result:
        """What `work` of the store gives, on a thread.

        Raises
        ------
        Unavailable
            Where the audit log is down.
        """
        try:
            return await self._run(lambda: work(*asked, **more))
        except AuditLogUnavailable as error:
            logger.error("%s", error)
            raise Unavailable("The jobs are unavailable.", self._settings.retry_after_s) from None

    async def _work_forever(self) -> None:
        while True:
            self._news.clear()
            try:
                await self._count()
                taken = await self._run(self._worker_store.take)
                if taken is not None:
                    await self._work(taken)
                    continue
            except AuditLogUnavailable as error:
                logger.warning("%s", error)
            except Exception:
                # What it held stays its own until the lease is over.
                logger.exception("the work at a job broke off")
            try:
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _purge_forever(self) -> None:
        while True:
            try:
                await self._run(self.caller_store.purge)
            except AuditLogUnavailable as error:
                logger.warning("%s", error)
            await asyncio.sleep(_PURGE_EVERY_S)

    async def _count(self) -> None:
        for state, count in (await self._run(self.caller_store.counts)).items():
            self._engine.metrics.jobs.labels(state).set(count)

    async def _work(self, taken: Taken) -> None:
        """Answer the studies of a job, for as long as this process holds it."""
        try:
            try:
                await self._answer_all(taken)
            except* Superseded:
                logger.info("job %s was cancelled, or is another process's now", taken.job_id)
        except asyncio.CancelledError:
            await self._release(taken)
            raise

    async def _answer_all(self, taken: Taken) -> None:
        studies = iter(taken.studies)
        # An explanation keeps the model for long: whoever waits for his own waits for one of a job's, not for several.
        places = 1 if taken.kind == "explain" else self._settings.job_places
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(self._renew(taken))
            async with asyncio.TaskGroup() as lanes:
                for _ in range(min(places, len(taken.studies))):
                    lanes.create_task(self._lane(taken, studies))
            await self._persist(self._worker_store.end, taken)
            renewing.cancel()

    async def _renew(self, taken: Taken) -> None:
        while True:
            await asyncio.sleep(self._settings.job_lease_s / 3)
            await self._persist(self._worker_store.renew, taken)

    async def _release(self, taken: Taken) -> None:
        try:
            await self._run(self._worker_store.release, taken)
        except (Superseded, AuditLogUnavailable):
            logger.warning("job %s goes on when its lease is over", taken.job_id)

    async def _lane(self, taken: Taken, studies: Iterator[int]) -> None:
        """Answer one study after the other, as long as there are any."""
        for study in studies:
            task = taken.task(study)
            status = await self._answered(taken, task)
            self._engine.metrics.job_studies.labels(str(status)).inc()
            await self._persist(self._worker_store.wipe, task)

    async def _answered(self, taken: Taken, task: Task) -> int:
        """The status that the study would have had alone; it is answered, or its problem kept."""
        origin = Origin(taken.caller, str(taken.job_id), task=task)
        failures = 0
        while True:
            try:
                form = await self._persist(self._worker_store.form, task)
                await self._ask(taken.kind, form, origin)
            except (Unavailable, Closed) as error:
                release_traceback(error)
                await asyncio.sleep(_RETRY_S)
            except (asyncio.CancelledError, KeyboardInterrupt, SystemExit, Superseded):
                raise
            except BaseException as error:  # noqa: BLE001 - a compiled library's panic is no Exception
                failures += 1
                if failures < _MOST_ATTEMPTS and not is_its_own(error):
                    logger.warning("a study of job %s is tried again: %s", taken.job_id, type(error).__name__)
                    release_traceback(error)
                    await asyncio.sleep(_RETRY_S)
                    continue
                document, _ = problem(error)
                body = document.model_dump_json(exclude_none=True).encode()
                await self._persist(self._worker_store.refuse, task, document.status, body)
                return document.status
            else:
                return HTTPStatus.OK

    async def _ask(self, kind: str, form: Form, origin: Origin) -> None:
        engine, settings = self._engine, self._settings
        if kind == "explain":
            with await engine.explanations.free_place(awaited=False) as order:
                async with in_time(settings.explanation_timeout_s, "The answer"):
                    await engine.explain(form, order, origin)
        else:
            with await engine.diagnoses.free_place(awaited=False) as place:
                async with in_time(settings.answer_timeout_s, "The answer"):
                    await engine.diagnose(form, place, origin)

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


def is_its_own(error: BaseException) -> bool:
    """Whether the study itself has caused `error`; decoders may have been killed by something else."""
    return isinstance(error, InputError | NotOffered) and not isinstance(error, DecodersDied)
