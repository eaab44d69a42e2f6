"""Answers jobs, one at a time, with few studies in the queue of the diagnoses at once; and deletes those that are over.

A study of a job takes a place only where one is free, and no batch waits for it, so that whoever asks for one study
waits no longer than for one more study in his batch, or for one explanation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from http import HTTPStatus
from typing import Protocol

from service.audit_log.entries import Origin, Task
from service.http.deadlines import in_time
from service.http.multipart import Form
from service.http.problems import problem
from service.jobs.caller_store import CallerStore
from service.jobs.worker_store import Taken, WorkerStore
from service.leased_work.lease_worker import LeaseWorker
from service.serving.answering import Answering, ReadForm


class KeptForReaders(Protocol):
    """Keeps studies of jobs for a reading group; synchronous."""

    def keep(self, task: Task, caller: str, group: str, read: ReadForm) -> None:
        """Keep what readers in `group` see of the study, which `caller` handed over."""

    def drop(self, task: Task) -> None:
        """Delete it: the study was refused."""


class Readers(Protocol):
    """Where studies are stored for readers."""

    @property
    def of_jobs(self) -> KeptForReaders: ...


class Jobs(LeaseWorker[Taken]):
    """The jobs of one service.

    Parameters
    ----------
    readers : Readers
        Where studies of jobs with a reading group are kept, too.
    """

    kind = "job"

    def __init__(self, engine: Answering, readers: Readers) -> None:
        super().__init__(engine)
        self._readers = readers

    @property
    def caller_store(self) -> CallerStore:
        """The jobs as callers see them; see `ask`."""
        return CallerStore(self.recorder.opened, self.settings)

    @property
    def _store(self) -> WorkerStore:
        return WorkerStore(self.recorder.opened, self.settings)

    def _purge(self) -> int:
        return self.caller_store.purge()

    async def _next(self) -> Taken | None:
        for state, count in (await self._run(self.caller_store.counts)).items():
            self._engine.metrics.jobs.labels(state).set(count)
        return await super()._next()

    async def _give_up(self, taken: Taken) -> None:
        await self._persist(self._store.give_up, taken)

    async def _answer(self, taken: Taken) -> None:
        """Answer the studies of a job."""
        studies = iter(taken.studies)
        # An explanation keeps the model for long: whoever waits for his own waits for one of a job's, not for several.
        places = 1 if taken.kind == "explain" else self.settings.job_places
        async with asyncio.TaskGroup() as lanes:
            for _ in range(min(places, len(taken.studies))):
                lanes.create_task(self._lane(taken, studies))
        await self._persist(self._store.end, taken)

    async def _lane(self, taken: Taken, studies: Iterator[int]) -> None:
        """Answer one study after the other, as long as there are any."""
        for study in studies:
            task = taken.task(study)
            status = await self._answered(taken, task)
            self._engine.metrics.job_studies.labels(str(status)).inc()
            await self._persist(self._store.wipe, task)

    async def _answered(self, taken: Taken, task: Task) -> int:
        """The status that the study would have had alone; it is answered, or its problem kept."""
        origin = Origin(taken.caller, str(taken.job_id), task=task)

        async def attempt() -> None:
            form = await self._persist(self._store.form, task)
            if taken.kind == "explain":
                await self._explain(form, origin, await self._kept(taken, task, form))
            else:
                await self._diagnose(form, origin)

        error = await self._with_retries(attempt, taken.job_id)
        if error is None:
            return HTTPStatus.OK
        if taken.reading_group is not None:
            await self._persist(self._readers.of_jobs.drop, task)
        document, _ = problem(error)
        body = document.model_dump_json(exclude_none=True).encode()
        await self._persist(self._store.refuse, task, document.status, body)
        return document.status

    async def _kept(self, taken: Taken, task: Task, form: Form) -> ReadForm | None:
        """The form as it is read for model and readers, where there are any."""
        if taken.reading_group is None:
            return None
        async with in_time(self.settings.explanation_timeout_s, "The answer"):
            read = await self._engine.read(form)
        await self._persist(self._readers.of_jobs.keep, task, taken.caller, taken.reading_group, read)
        return read

    async def _explain(self, form: Form, origin: Origin, read: ReadForm | None) -> None:
        engine = self._engine
        with await engine.explanations.free_place(awaited=False) as order:
            async with in_time(self.settings.explanation_timeout_s, "The answer"):
                await engine.explain(form, order, origin, read)

    async def _diagnose(self, form: Form, origin: Origin) -> None:
        engine = self._engine
        with await engine.diagnoses.free_place(awaited=False) as place:
            async with in_time(self.settings.answer_timeout_s, "The answer"):
                await engine.diagnose(form, place, origin)
