"""Answers jobs, one at a time, with few studies in the queue of the diagnoses at once; and deletes those that are over.

A study of a job takes a place only where one is free, and no batch waits for it, so that whoever asks for one study
waits no longer than for one more study in his batch, or for one explanation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from http import HTTPStatus

from service.audit_log.entries import Origin, Task
from service.http.deadlines import in_time
from service.http.multipart import Form
from service.http.problems import problem
from service.jobs.caller_store import CallerStore
from service.jobs.worker_store import Taken, WorkerStore
from service.leased_work.lease_worker import LeaseWorker


class Jobs(LeaseWorker[Taken]):
    """The jobs of one service."""

    kind = "job"

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
            await self._ask(taken.kind, await self._persist(self._store.form, task), origin)

        error = await self._with_retries(attempt, taken.job_id)
        if error is None:
            return HTTPStatus.OK
        document, _ = problem(error)
        body = document.model_dump_json(exclude_none=True).encode()
        await self._persist(self._store.refuse, task, document.status, body)
        return document.status

    async def _ask(self, kind: str, form: Form, origin: Origin) -> None:
        engine, settings = self._engine, self.settings
        if kind == "explain":
            with await engine.explanations.free_place(awaited=False) as order:
                async with in_time(settings.explanation_timeout_s, "The answer"):
                    await engine.explain(form, order, origin)
        else:
            with await engine.diagnoses.free_place(awaited=False) as place:
                async with in_time(settings.answer_timeout_s, "The answer"):
                    await engine.diagnose(form, place, origin)
