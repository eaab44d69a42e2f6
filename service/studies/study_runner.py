"""Decodes and answers stored studies, one at a time, and deletes those that are over.

As a study of a job does, it takes a place among the explanations only where one is free.
"""

from __future__ import annotations

from service.audit_log.entries import Origin
from service.http.deadlines import in_time
from service.http.problems import NotAnswered, problem
from service.leased_work.lease_worker import LeaseWorker
from service.serving.answering import Answering
from service.studies.answering_store import AnsweringStore, TakenStudy
from service.studies.archive.archive_pixels import ArchivePixels
from service.studies.decisions import Decisions
from service.studies.model_history import ModelHistory
from service.studies.operations import Figures
from service.studies.patient_index import PatientIndex
from service.studies.reader_store import ReaderStore
from service.studies.sorting.opened_facts import OpenedFacts
from service.studies.studies_of_jobs import StudiesOfJobs


class Studies(LeaseWorker[TakenStudy]):
    """The stored studies of one service."""

    kind = "study"

    def __init__(self, engine: Answering) -> None:
        super().__init__(engine)
        self._facts = OpenedFacts()
        self.archive = ArchivePixels(self.settings, engine.view)
        """Where the words of DICOM files are fetched from, where they are not stored."""

    async def stop(self) -> None:
        """Give back what is under way."""
        await super().stop()
        self.archive.close()

    @property
    def reader_store(self) -> ReaderStore:
        """The studies as readers see them; see `ask`."""
        return ReaderStore(self.recorder.opened, self.settings, self._facts)

    @property
    def decisions(self) -> Decisions:
        """What readers decide; see `ask`."""
        return Decisions(self.recorder.opened, self.settings)

    @property
    def figures(self) -> Figures:
        """What is counted of answers and reads; see `ask`."""
        return Figures(self.recorder.opened)

    @property
    def model_history(self) -> ModelHistory:
        """What was recorded of the models; see `ask`."""
        return ModelHistory(self.recorder.opened)

    @property
    def of_jobs(self) -> StudiesOfJobs:
        """Those of jobs; on a thread."""
        return StudiesOfJobs(self.recorder.opened, self.settings)

    @property
    def _store(self) -> AnsweringStore:
        return AnsweringStore(self.recorder.opened, self.settings)

    def start(self) -> None:
        """Begin to answer studies, where the service stores some."""
        if self.settings.studies:
            super().start()

    def _purge(self) -> int:
        PatientIndex(self.recorder.opened).fill()
        return self.reader_store.purge()

    async def _give_up(self, taken: TakenStudy) -> None:
        await self._refuse(taken, NotAnswered(cancelled=False))

    async def _answer(self, taken: TakenStudy) -> None:
        error = await self._with_retries(lambda: self._attempt(taken), taken.key)
        if error is None:
            await self._persist(self._store.forget_form, taken.task)
        else:
            await self._refuse(taken, error)

    async def _refuse(self, taken: TakenStudy, error: BaseException) -> None:
        document, _ = problem(error)
        await self._persist(self._store.refuse, taken, document.model_dump_json(exclude_none=True).encode())

    async def _attempt(self, taken: TakenStudy) -> None:
        engine, settings, task = self._engine, self.settings, taken.task
        form = await self._persist(self._store.form, task)
        async with in_time(settings.explanation_timeout_s, "The answer"):
            read = await engine.read(form)
        if not taken.decoded:
            await self._persist(self._store.keep_views, taken, read)
        if not taken.answered:
            await self._persist(self._store.finish, taken)
            return
        with await engine.explanations.free_place(awaited=False) as place:
            async with in_time(settings.explanation_timeout_s, "The answer"):
                await engine.explain(form, place, Origin(taken.caller, str(taken.key), task=task), read)
