"""Jobs as the processes see them that answer: taken, one study after the other, by one process at a time.

A process holds a job by a lease, which it renews; where it dies, another takes the job over. Whatever it does to a job
it does as its owner: one that was too slow, and has lost the job meanwhile, does nothing any more.

Synchronous: `runner` runs it on threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from service.audit_log.database import Database
from service.audit_log.entries import Task
from service.audit_log.store import Store
from service.audit_log.tables import JobInputRow, JobRow, JobStudyRow
from service.audit_log.tasks import job_answers as tasks
from service.audit_log.tasks.job_answers import RUNNING, Superseded
from service.http.multipart import Form
from service.jobs.sealed_input import unsealed
from service.settings import Settings

QUEUED, DONE, FAILED = "queued", "done", "failed"
_MOST_LOSSES = 5
"""How often a process may die at a job before the job is thought to be the reason."""
_WIPED_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Taken:
    """A job that this process holds, and the studies of it that have no answer yet."""

    job_id: UUID
    owner: UUID
    caller: str
    kind: str
    studies: tuple[int, ...]

    def task(self, study: int) -> Task:
        return Task(self.job_id, study, self.owner)


class WorkerStore:
    """Jobs in the audit log's database.

    Parameters
    ----------
    store : Store
        The audit log, with the keys that unseal.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._database = store.database
        self._keys = store.keys
        self._settings = settings

    def take(self) -> Taken | None:
        """The job that has waited longest: it is new, or whoever held it has not renewed its lease."""
        now = datetime.now(UTC)
        lost = and_(JobRow.state == RUNNING, JobRow.lease <= now)
        waiting = select(JobRow).where(or_(JobRow.state == QUEUED, lost), JobRow.expires > now)
        waiting = waiting.order_by(JobRow.submitted).limit(1)
        with self._database.reading() as session:
            if session.scalars(waiting).first() is None:
                return None  # Most often; and nobody had to wait for us.
        with self._database.writing() as session:
            row = session.scalars(waiting.with_for_update(skip_locked=True)).first()
            if row is None:
                return None
            row.losses += row.state == RUNNING
            if row.losses <= _MOST_LOSSES:
                return self._taken(session, row)
            close(row, FAILED, self._settings)
        wipe(self._database, row.job_id)
        return None

    def renew(self, taken: Taken) -> None:
        """Renew the lease of the job.

        Raises
        ------
        Superseded, AuditLogUnavailable
        """
        self._change(taken, lease=self._lease())

    def release(self, taken: Taken) -> None:
        """Give a job back that is not finished, so that another process can take it at once."""
        self._change(taken, state=QUEUED, owner=None, lease=None)

    def end(self, taken: Taken) -> None:
        """Every study of the job has its answer or its problem."""
        with self._database.writing() as session:
            close(_held(session, taken), DONE, self._settings)
        wipe(self._database, taken.job_id)

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

    def _taken(self, session: Session, row: JobRow) -> Taken:
        row.state, row.lease = RUNNING, self._lease()
        row.owner = owner = uuid4()
        studies = select(JobStudyRow.study).where(JobStudyRow.job_id == row.job_id, JobStudyRow.status.is_(None))
        left = session.scalars(studies.order_by(JobStudyRow.study)).all()
        return Taken(row.job_id, owner, row.caller, row.kind, tuple(left))

    def _lease(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._settings.job_lease_s)

    def _change(self, taken: Taken, **values: object) -> None:
        with self._database.writing() as session:
            row = _held(session, taken)
            for name, value in values.items():
                setattr(row, name, value)


def _held(session: Session, taken: Taken) -> JobRow:
    """The row of the job, locked; `Superseded` where it is another's now."""
    own = and_(JobRow.job_id == taken.job_id, JobRow.owner == taken.owner, JobRow.state == RUNNING)
    row = session.scalars(select(JobRow).where(own).with_for_update()).first()
    if row is None:
        raise Superseded(f"job {taken.job_id} is not held any more")
    return row


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
