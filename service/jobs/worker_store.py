"""Jobs as the processes see them that answer: taken, one study after the other, by one process at a time.

Synchronous: `runner` runs it on threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from sqlalchemy import and_, delete, func, select, update
from sqlalchemy.orm import Session

from service.audit_log.database import Database
from service.audit_log.entries import Task
from service.audit_log.tables import JobInputRow, JobRow, JobStudyRow
from service.audit_log.tasks import job_answers as tasks
from service.audit_log.tasks.leases import Superseded
from service.http.multipart import Form
from service.leased_work.lease_store import Held, LeaseStore
from service.leased_work.sealed_input import unsealed
from service.settings import Settings

DONE, FAILED = "done", "failed"
_WIPED_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Taken(Held):
    """A job that this process holds, and the studies of it that have no answer yet."""

    kind: str
    reading_group: str | None
    studies: tuple[int, ...]

    @property
    def job_id(self) -> UUID:
        return self.key

    def task(self, study: int) -> Task:
        stored = None if self.reading_group is None else uuid5(self.key, str(study))
        return Task(self.key, study, self.owner, stored)


class WorkerStore(LeaseStore[JobRow, Taken]):
    """Jobs in the audit log's database."""

    rows = JobRow

    def end(self, taken: Taken) -> None:
        """Every study of the job has its answer or its problem."""
        with self._database.writing() as session:
            close(self._required(session, taken), DONE, self._settings)
        wipe(self._database, taken.key)

    def give_up(self, taken: Taken) -> None:
        """Nobody is to try the job again; its studies without an answer get none."""
        with self._database.writing() as session:
            close(self._required(session, taken), FAILED, self._settings)
        wipe(self._database, taken.key)

    def form(self, task: Task) -> Form:
        """What one study consists of.

        Raises
        ------
        Superseded
            Where it was answered or cancelled meanwhile.
        Unsealable, AuditLogUnavailable
        """
        wanted = select(JobInputRow.data).where(JobInputRow.job_id == task.job_id, JobInputRow.study == task.study)
        with self._database.reading() as session:
            chunks = session.scalars(wanted.order_by(JobInputRow.chunk)).all()
        if not chunks:
            raise Superseded(f"job {task.job_id}: study {task.study} is not there any more")
        return unsealed(chunks, self._keys, study_name(task.job_id, task.study))

    def refuse(self, task: Task, status: int, problem: bytes) -> None:
        """Keep the problem because of which a study has no answer.

        Raises
        ------
        Superseded, AuditLogUnavailable
        """
        with self._database.writing() as session:
            row = tasks.held(session, task)
            if isinstance(row, Superseded):
                raise row
            tasks.keep(row, self._keys, status, problem)

    def wipe(self, task: Task) -> None:
        """Delete what a study consisted of."""
        wipe(self._database, task.job_id, task.study)

    def _taken(self, session: Session, row: JobRow, owner: UUID, lost: bool) -> Taken:
        studies = select(JobStudyRow.study).where(JobStudyRow.job_id == row.job_id, JobStudyRow.status.is_(None))
        left = session.scalars(studies.order_by(JobStudyRow.study)).all()
        return Taken(row.job_id, owner, row.caller, lost, row.kind, row.reading_group, tuple(left))


def study_name(job_id: UUID, study: int) -> str:
    """For what the chunks of a study are sealed."""
    return f"job {job_id}, study {study}"


def close(row: JobRow, state: str, settings: Settings) -> None:
    """The job has ended; from now its answers are kept for as long as they may be."""
    row.state, row.owner, row.lease = state, None, None
    row.ended = datetime.now(UTC)
    row.expires = row.ended + timedelta(seconds=settings.job_ttl_s)


def wipe(database: Database, job_id: UUID, study: int | None = None) -> None:
    """Delete what the studies of a job consisted of, or one of them, a little at a time; SQLite overwrites it."""
    inputs, rows = JobInputRow.job_id == job_id, JobStudyRow.job_id == job_id
    if study is not None:
        inputs, rows = and_(inputs, JobInputRow.study == study), and_(rows, JobStudyRow.study == study)
    some = select(JobInputRow.study, JobInputRow.chunk).where(inputs).limit(_WIPED_AT_ONCE)
    while True:
        with database.writing() as session:
            found = session.execute(some).all()
            for number, chunk in found:
                one = and_(JobInputRow.job_id == job_id, JobInputRow.study == number, JobInputRow.chunk == chunk)
                session.execute(delete(JobInputRow).where(one))
            if len(found) < _WIPED_AT_ONCE:
                left = func.coalesce(func.length(JobStudyRow.answer), 0)
                session.execute(update(JobStudyRow).where(rows).values(size=left))
                return
