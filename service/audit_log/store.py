"""What the audit log keeps and what it can be asked: answers, feedback, recall.

Synchronous: `recorder` runs it on a thread. Idempotency keys are `claims`'s, purge and backup `retention`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Protocol
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, and_, insert, select, tuple_
from sqlalchemy.orm import Session

from consilium.api.schemas import FeedbackAnswer, FeedbackRequest, ResultAnswer
from consilium.domain.errors import InputError
from consilium.formats.sent_records import nearest_key
from consilium.formats.times import read_time
from service.audit_log import idempotency as claims
from service.audit_log.database import Database
from service.audit_log.entries import Claim, Entry, StudyTask, Task
from service.audit_log.pseudonyms import AuditLogKeys, Kind
from service.audit_log.tables import ClaimRow, FeedbackRow, JobStudyRow, MonitoringRow, ResultRow, StudyRow
from service.audit_log.tasks import job_answers as tasks
from service.audit_log.tasks import study_answers as studies

# SQLAlchemy's types allow `insert` no table of a mapped class.
_RECORD = insert(ResultRow.__table__)  # type: ignore[arg-type]
_MONITOR = insert(MonitoringRow.__table__)  # type: ignore[arg-type]
_ROWS_AT_ONCE = 500
_CLOCKS_APART = timedelta(minutes=5)
_NO_RESULT = "must be the id of a recorded answer"


class NoSuchResult(InputError):
    """The audit log holds no answer of this id: it was never given, was another caller's, or was purged."""

    status = 404


class Criterion(Protocol):
    """Which answers a recall asks for."""

    def where(self, keys: AuditLogKeys) -> ColumnElement[bool]: ...


@dataclass(frozen=True, slots=True)
class OfModel:
    """Answers of one model, or of one version of it."""

    name: str
    version: str | None = None

    def where(self, _: AuditLogKeys) -> ColumnElement[bool]:
        named = ResultRow.model_name == self.name
        return named if self.version is None else and_(named, ResultRow.model_version == self.version)


@dataclass(frozen=True, slots=True)
class OfPseudonym:
    """Answers about one patient, study or order, or with one caller's reference, whichever key signed them."""

    kind: Kind
    value: str

    def where(self, keys: AuditLogKeys) -> ColumnElement[bool]:
        columns = {
            Kind.PATIENT: ResultRow.patient,
            Kind.STUDY: ResultRow.study,
            Kind.ACCESSION: ResultRow.accession,
            Kind.REFERENCE: ResultRow.reference,
        }
        return columns[self.kind].in_(keys.pseudonyms(self.kind, self.value))


class Store:
    """The audit log, with the keys that it is signed by.

    Parameters
    ----------
    monitoring : bool
        Also keep what monitoring needs of each answer.
    """

    def __init__(self, database: Database, keys: AuditLogKeys, *, monitoring: bool = True) -> None:
        self.database = database
        self.keys = keys
        self._monitoring = monitoring

    def commit(self, entries: Sequence[Entry], replay_s: float) -> list[Exception | None]:
        """Record all of `entries` in one transaction.

        Parameters
        ----------
        replay_s : float
            How long the answers of idempotent requests can be replayed.

        Returns
        -------
        list of (InFlight or Superseded or None)
            For each entry None, or why it alone was not recorded: another request took its idempotency key over, or
            another process its job.

        Raises
        ------
        AuditLogUnavailable
            Where none was recorded.
        """
        with self.database.transaction() as connection, Session(connection) as session:
            held = [(entry, _held(session, entry)) for entry in entries]
            recorded = [entry for entry, hold in held if not isinstance(hold, Exception)]
            if recorded:
                connection.execute(_RECORD, [entry.values(self.keys.newest) for entry in recorded])
            if recorded and self._monitoring:
                monitored = [row for entry in recorded if (row := entry.monitored(self.keys.newest)) is not None]
                if monitored:
                    connection.execute(_MONITOR, monitored)
            for entry, hold in held:
                if isinstance(hold, ClaimRow):
                    until = entry.time + timedelta(seconds=replay_s)
                    claims.keep(hold, self.keys, entry.body, until, entry.result_id)
                elif isinstance(hold, JobStudyRow):
                    tasks.keep(hold, self.keys, HTTPStatus.OK, entry.body)
                    if isinstance(entry.claim, Task) and entry.claim.stored is not None:
                        studies.keep_of_job(session, entry.claim.stored, self.keys, entry)
                elif isinstance(hold, StudyRow):
                    studies.keep(session, hold, self.keys, entry)
            session.flush()
        return [hold if isinstance(hold, Exception) else None for _, hold in held]

    def result(self, result_id: UUID, caller: str | None = None) -> ResultAnswer:
        """What was recorded of one answer; only where it was given to `caller`, if one is given.

        Raises
        ------
        NoSuchResult, AuditLogUnavailable
        """
        with self.database.reading() as session:
            row = _row(session, result_id)
            if caller not in (None, row.caller):
                raise NoSuchResult("result_id", str(result_id), _NO_RESULT)
            return _answers(session, [row])[0]

    def add_feedback(self, feedback: FeedbackRequest, caller: str) -> FeedbackAnswer:
        """Keep what was confirmed of an answer.

        Raises
        ------
        NoSuchResult, AuditLogUnavailable
        InputError
            Where the answer holds no such finding, or the time is none, or to come.
        """
        time = read_past(feedback.time, "time", datetime.now(UTC))
        given = FeedbackAnswer(feedback_id=uuid4(), result_id=feedback.result_id, time=time)
        with self.database.writing() as session:
            answered = [finding["finding"] for finding in _row(session, feedback.result_id).findings]
            for name in feedback.findings:
                require_finding(name, answered, "findings")
            session.add_all(
                FeedbackRow(
                    feedback_id=given.feedback_id,
                    finding=name,
                    result_id=given.result_id,
                    state=state,
                    time=given.time,
                    caller=caller,
                    source="feedback",
                    influenced=feedback.influenced,
                )
                for name, state in feedback.findings.items()
            )
        return given

    def recall(self, criterion: Criterion) -> Iterator[ResultAnswer]:
        """Every answer of `criterion`, oldest first. There may be millions: they are read a page at a time."""
        place = ResultRow.time, ResultRow.result_id
        page = select(ResultRow).where(criterion.where(self.keys)).order_by(*place).limit(_ROWS_AT_ONCE)
        wanted = page
        while True:
            with self.database.reading() as session:
                found = _answers(session, session.scalars(wanted).all())
            yield from found
            if len(found) < _ROWS_AT_ONCE:
                return
            wanted = page.where(tuple_(*place) > (found[-1].time, found[-1].result_id))


def require_finding(name: str, answered: Sequence[str], field: str) -> None:
    """`InputError` with `field` where `name` is no finding of an answer that has those of `answered`."""
    if name not in answered:
        raise InputError(field, name, f"is no finding of that answer; the nearest is {nearest_key(name, answered)!r}")


def read_past(given: object, field: str, now: datetime) -> datetime:
    """The time that was `given`, in UTC, or `now` without one; `InputError` where it is none, or to come."""
    moment, _ = read_time(given, field)
    if moment is not None and moment > now + _CLOCKS_APART:
        raise InputError(field, given, "must not lie in the future")
    return min(now, now if moment is None else moment.astimezone(UTC))


def _held(session: Session, entry: Entry) -> ClaimRow | JobStudyRow | StudyRow | Exception | None:
    """The locked row that allows `entry` to be recorded; an error where it may not be; None where it needs none."""
    if isinstance(entry.claim, Claim):
        return claims.held(session, entry.claim)
    if isinstance(entry.claim, StudyTask):
        return studies.held(session, entry.claim)
    return None if entry.claim is None else tasks.held(session, entry.claim)


def _row(session: Session, result_id: UUID) -> ResultRow:
    row = session.get(ResultRow, result_id)
    if row is None:
        raise NoSuchResult("result_id", str(result_id), _NO_RESULT)
    return row


def _answers(session: Session, rows: Sequence[ResultRow]) -> list[ResultAnswer]:
    confirmed: dict[UUID, list[FeedbackRow]] = {row.result_id: [] for row in rows}
    wanted = select(FeedbackRow).order_by(FeedbackRow.time, FeedbackRow.feedback_id, FeedbackRow.finding)
    for line in session.scalars(wanted.where(FeedbackRow.result_id.in_(confirmed))):
        confirmed[line.result_id].append(line)
    return [_answer(row, confirmed[row.result_id]) for row in rows]


def _answer(row: ResultRow, feedback: Sequence[FeedbackRow]) -> ResultAnswer:
    return ResultAnswer.model_validate(
        {
            "result_id": row.result_id,
            "time": row.time,
            "endpoint": row.endpoint,
            "role": row.role,
            "request_id": row.request_id,
            "caller": row.caller,
            "model": {
                "name": row.model_name,
                "version": row.model_version,
                "manifest_digest": row.manifest_digest,
            },
            "pseudonyms": {
                "key_id": row.key_id,
                "patient": row.patient,
                "study": row.study,
                "accession": row.accession,
                "caller_reference": row.reference,
            },
            "input_digests": row.input_digests,
            "findings": row.findings,
            "grades": row.grades,
            "survival": row.survival,
            "refer_reasons": row.refer_reasons,
            "latencies_ms": row.latencies_ms,
            "feedback": [
                {
                    "feedback_id": line.feedback_id,
                    "finding": line.finding,
                    "state": line.state,
                    "time": line.time,
                    "caller": line.caller,
                    "source": line.source,
                    "influenced": line.influenced,
                }
                for line in feedback
            ],
        }
    )
