"""Jobs as callers see them: handed over, looked at, cancelled, fetched, and deleted when their time is over.

Synchronous: `runner` runs it on threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from uuid import UUID, uuid4

from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from consilium.api.schemas import JobAnswer, JobKind
from consilium.domain.errors import InputError
from service.audit_log import idempotency as claims
from service.audit_log.database import AuditLogUnavailable
from service.audit_log.entries import Claim
from service.audit_log.store import Store
from service.audit_log.tables import JOB_STATES, JobInputRow, JobRow, JobStudyRow
from service.audit_log.tasks.job_answers import answer_place
from service.audit_log.tasks.leases import QUEUED, RUNNING
from service.http.multipart import Form
from service.http.problems import Unavailable
from service.jobs.worker_store import close, study_name, wipe
from service.leased_work.lease_store import add_slowly
from service.leased_work.sealed_input import sealed, size
from service.settings import Settings

RECEIVING, CANCELLED = "receiving", "cancelled"
OPEN = (QUEUED, RUNNING)
_RETRY_AFTER_S = 10
_ROOM_LOCK = 0x636F6E74
"""Of PostgreSQL's advisory locks the one under which room is given out."""
_RECEIVING_S = 300.0
"""Older than this, what is still being received is of a process that crashed."""
_LINES_AT_ONCE = 4


class NoSuchJob(InputError):
    """There is no job of this id, or it is another caller's."""

    status = 404

    def __init__(self, job_id: object) -> None:
        super().__init__("job_id", str(job_id), "must be the id of a job of this caller that has not expired")


class TooManyJobs(Unavailable):
    """The caller has too many jobs that have not ended."""

    status = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(self) -> None:
        super().__init__("This caller has too many jobs that have not ended.", _RETRY_AFTER_S)


class NotEnded(Unavailable):
    """The job is under way: its answers are not complete."""

    status = HTTPStatus.CONFLICT

    def __init__(self) -> None:
        super().__init__("This job has not ended yet.", _RETRY_AFTER_S)


@dataclass(frozen=True, slots=True)
class Line:
    """The answer to one study; no status where the job ended before it was answered."""

    study: int
    status: int | None
    answer: bytes


class CallerStore:
    """Jobs in the audit log's database.

    Parameters
    ----------
    store : Store
        The audit log, with the keys that seal.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._database = store.database
        self._keys = store.keys
        self._settings = settings

    def check_room(self, caller: str) -> None:
        """Raise where `caller` could hand nothing over now, however small.

        Raises
        ------
        TooManyJobs, Unavailable, AuditLogUnavailable
        """
        with self._database.reading() as session:
            self._require_room(session, caller, 1)

    def receive(
        self,
        caller: str,
        kind: JobKind,
        studies: Sequence[Form],
        claim: Claim | None,
        reading_group: str | None = None,
    ) -> JobAnswer:
        """Keep `studies` as a new job. When this returns they are on the disk, and will be answered.

        Readers in `reading_group` see them once they are.

        Raises
        ------
        TooManyJobs, Unavailable, AuditLogUnavailable
        InFlight
            Where another request took the idempotency key over.
        """
        job_id = self._open(caller, kind, [size(form) for form in studies], reading_group)
        try:
            add_slowly(self._database, self._chunks(job_id, studies))
            return self._queue(job_id, claim)
        except BaseException:
            with suppress(AuditLogUnavailable):
                self._delete(job_id)
            raise

    def job(self, job_id: UUID, caller: str | None) -> JobAnswer:
        """How far a job is; that of any caller where `caller` is None.

        Raises
        ------
        NoSuchJob, AuditLogUnavailable
        """
        with self._database.reading() as session:
            return _answer(session, _found(session, job_id, caller))

    def cancel(self, job_id: UUID, caller: str | None) -> JobAnswer:
        """End a job; one that has ended stays as it is. No study of it is answered from now on.

        Raises
        ------
        NoSuchJob, AuditLogUnavailable
        """
        with self._database.writing() as session:
            row = _found(session, job_id, caller, lock=True)
            if row.state in OPEN:
                close(row, CANCELLED, self._settings)
                session.flush()
            answer = _answer(session, row)
        wipe(self._database, job_id)
        return answer

    def lines(self, job_id: UUID, caller: str | None) -> tuple[JobAnswer, Iterator[list[Line]]]:
        """What was answered to each study of a job that has ended, in their order, a few at a time.

        Raises
        ------
        NoSuchJob, NotEnded, AuditLogUnavailable
            `NoSuchJob` and `AuditLogUnavailable` also while they are read.
        """
        job = self.job(job_id, caller)
        if job.state in OPEN:
            raise NotEnded
        return job, self._lines(job)

    def discard(self, job_id: UUID, caller: str | None) -> None:
        """Delete a job that has ended, and its answers, before its time: they were fetched.

        Raises
        ------
        NoSuchJob, NotEnded, AuditLogUnavailable
        """
        if self.job(job_id, caller).state in OPEN:
            raise NotEnded
        self._delete(job_id)

    def purge(self) -> int:
        """Delete jobs whose time is over, and what a process that crashed was receiving; how many there were."""
        now = datetime.now(UTC)
        abandoned = (JobRow.state == RECEIVING) & (JobRow.submitted <= now - timedelta(seconds=_RECEIVING_S))
        with self._database.reading() as session:
            over = session.scalars(select(JobRow.job_id).where((JobRow.expires <= now) | abandoned)).all()
        for job_id in over:
            self._delete(job_id)
        if over:
            self._database.shrink()
        return len(over)

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self._database.reading() as session:
            found = session.execute(select(JobRow.state, func.count()).group_by(JobRow.state)).all()
        return dict.fromkeys(JOB_STATES, 0) | {row[0]: row[1] for row in found}

    def _require_room(self, session: Session, caller: str, wanted: int) -> None:
        mine = select(func.count()).where(JobRow.caller == caller, JobRow.state.in_((RECEIVING, *OPEN)))
        if (session.scalar(mine) or 0) >= self._settings.jobs_per_caller:
            raise TooManyJobs
        taken = session.scalar(select(func.sum(JobStudyRow.size))) or 0
        if taken + wanted > self._settings.job_storage_bytes:
            raise Unavailable("The storage quota of jobs is exceeded.", _RETRY_AFTER_S)

    def _open(self, caller: str, kind: JobKind, sizes: Sequence[int], reading_group: str | None) -> UUID:
        now = datetime.now(UTC)
        job_id, expires = uuid4(), now + timedelta(seconds=self._settings.job_ttl_s)
        job = JobRow(job_id=job_id, caller=caller, kind=kind, reading_group=reading_group, losses=0)
        job.state, job.submitted, job.expires = RECEIVING, now, expires
        with self._database.writing() as session:
            if self._database.path is None:
                session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ROOM_LOCK})
            self._require_room(session, caller, sum(sizes))
            session.add(job)
            session.flush()
            session.add_all(JobStudyRow(job_id=job_id, study=study, size=taken) for study, taken in enumerate(sizes))
        return job_id

    def _chunks(self, job_id: UUID, studies: Sequence[Form]) -> Iterator[JobInputRow]:
        for study, form in enumerate(studies):
            for number, data in enumerate(sealed(form, self._keys, study_name(job_id, study))):
                yield JobInputRow(job_id=job_id, study=study, chunk=number, data=data)

    def _queue(self, job_id: UUID, claim: Claim | None) -> JobAnswer:
        with self._database.writing() as session:
            row = session.get(JobRow, job_id, with_for_update=True)
            if row is None:
                raise Unavailable("This job took too long to be received.", _RETRY_AFTER_S)
            row.state = QUEUED
            session.flush()
            answer = _answer(session, row)
            if claim is not None:
                held = claims.held(session, claim)
                if isinstance(held, claims.InFlight):
                    raise held
                until = row.submitted + timedelta(seconds=self._settings.idempotency_s)
                claims.keep(held, self._keys, answer.model_dump_json().encode(), until)
        return answer

    def _lines(self, job: JobAnswer) -> Iterator[list[Line]]:
        wanted = select(JobStudyRow).where(JobStudyRow.job_id == job.job_id).order_by(JobStudyRow.study)
        for first in range(0, job.studies, _LINES_AT_ONCE):
            with self._database.reading() as session:
                rows = session.scalars(wanted.where(JobStudyRow.study >= first).limit(_LINES_AT_ONCE)).all()
            if len(rows) < min(_LINES_AT_ONCE, job.studies - first):
                raise NoSuchJob(job.job_id)
            yield [self._line(row) for row in rows]

    def _line(self, row: JobStudyRow) -> Line:
        place = answer_place(row.job_id, row.study)
        return Line(row.study, row.status, b"" if row.answer is None else self._keys.unseal(row.answer, place))

    def _delete(self, job_id: UUID) -> None:
        wipe(self._database, job_id)
        with self._database.writing() as session:
            session.execute(delete(JobRow).where(JobRow.job_id == job_id))


def _found(session: Session, job_id: UUID, caller: str | None, *, lock: bool = False) -> JobRow:
    row = session.get(JobRow, job_id, with_for_update=lock or None)
    if row is None or row.state == RECEIVING or row.expires <= datetime.now(UTC) or caller not in (None, row.caller):
        raise NoSuchJob(job_id)
    return row


def _answer(session: Session, row: JobRow) -> JobAnswer:
    found = select(JobStudyRow.status, func.count()).where(JobStudyRow.job_id == row.job_id)
    counts = {row[0]: row[1] for row in session.execute(found.group_by(JobStudyRow.status))}
    studies, answered = sum(counts.values()), counts.get(HTTPStatus.OK, 0)
    return JobAnswer.model_validate(
        {
            "job_id": row.job_id,
            "kind": row.kind,
            "state": row.state,
            "studies": studies,
            "answered": answered,
            "refused": studies - answered - counts.get(None, 0),
            "submitted": row.submitted,
            "ended": row.ended,
            "expires": row.expires,
        }
    )
