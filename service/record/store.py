"""What the record keeps and what it can be asked: answers, feedback, recall.

Synchronous: `recorder` runs it on a thread. Idempotency keys are `claims`'s, purge and backup `retention`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, and_, select, tuple_
from sqlalchemy.orm import Session

from consilium.errors import InputError
from consilium.schemas import FeedbackAnswer, FeedbackRequest, ResultAnswer, nearest_key
from service.record import claims
from service.record.database import Database
from service.record.entries import Entry
from service.record.keys import Kind, RecordKeys
from service.record.tables import ClaimRow, FeedbackRow, ResultRow

_ROWS_AT_ONCE = 500


class NoSuchResult(InputError):
    """The record holds no answer of this id: it was never given, or was purged."""

    status = 404


class Criterion(Protocol):
    """Which answers a recall asks for."""

    def where(self, keys: RecordKeys) -> ColumnElement[bool]: ...


@dataclass(frozen=True, slots=True)
class OfModel:
    """Answers of one model, or of one version of it."""

    name: str
    version: str | None = None

    def where(self, _: RecordKeys) -> ColumnElement[bool]:
        named = ResultRow.model_name == self.name
        return named if self.version is None else and_(named, ResultRow.model_version == self.version)


@dataclass(frozen=True, slots=True)
class OfPseudonym:
    """Answers about one patient or study, or with one caller's reference, whichever key signed them."""

    kind: Kind
    value: str

    def where(self, keys: RecordKeys) -> ColumnElement[bool]:
        columns = {
            Kind.PATIENT: ResultRow.patient,
            Kind.STUDY: ResultRow.study,
            Kind.REFERENCE: ResultRow.reference,
        }
        return columns[self.kind].in_(keys.pseudonyms(self.kind, self.value))


class Store:
    """The record, with the keys that it is signed by."""

    def __init__(self, database: Database, keys: RecordKeys) -> None:
        self.database = database
        self.keys = keys

    def commit(self, entries: Sequence[Entry], replay_s: float) -> list[claims.InFlight | None]:
        """Record all of `entries` in one transaction.

        Parameters
        ----------
        replay_s : float
            How long the answers of idempotent requests can be replayed.

        Returns
        -------
        list of (InFlight or None)
            For each entry None, or why it alone was not recorded: another request took its idempotency key over.

        Raises
        ------
        RecordUnavailable
            Where none was recorded.
        """
        with self.database.writing() as session:
            claimed = [(entry, claims.held(session, entry)) for entry in entries]
            kept = [entry for entry, claim in claimed if not isinstance(claim, claims.InFlight)]
            session.add_all([entry.row(self.keys.newest) for entry in kept])
            session.flush()
            for entry, claim in claimed:
                if isinstance(claim, ClaimRow):
                    claims.keep(claim, self.keys, entry, replay_s)
        return [claim if isinstance(claim, claims.InFlight) else None for _, claim in claimed]

    def result(self, result_id: UUID) -> ResultAnswer:
        """What was recorded of one answer.

        Raises
        ------
        NoSuchResult, RecordUnavailable
        """
        with self.database.reading() as session:
            return _answers(session, [_row(session, result_id)])[0]

    def add_feedback(self, feedback: FeedbackRequest, caller: str) -> FeedbackAnswer:
        """Keep what was confirmed of an answer.

        Raises
        ------
        NoSuchResult, RecordUnavailable
        InputError
            Where the answer says nothing of a finding.
        """
        given = FeedbackAnswer(feedback_id=uuid4(), result_id=feedback.result_id, time=datetime.now(UTC))
        with self.database.writing() as session:
            answered = [finding["finding"] for finding in _row(session, feedback.result_id).findings]
            for name in feedback.findings:
                if name not in answered:
                    rule = f"is no finding of that answer; the nearest is {nearest_key(name, answered)!r}"
                    raise InputError("findings", name, rule)
            session.add_all(
                FeedbackRow(
                    feedback_id=given.feedback_id,
                    finding=name,
                    result_id=given.result_id,
                    state=state,
                    time=given.time,
                    caller=caller,
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


def _row(session: Session, result_id: UUID) -> ResultRow:
    row = session.get(ResultRow, result_id)
    if row is None:
        raise NoSuchResult("result_id", str(result_id), "must be the id of a recorded answer")
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
                "caller_reference": row.reference,
            },
            "input_digests": row.input_digests,
            "findings": row.findings,
            "refer": row.refer,
            "latencies_ms": row.latencies_ms,
            "feedback": [
                {
                    "feedback_id": line.feedback_id,
                    "finding": line.finding,
                    "state": line.state,
                    "time": line.time,
                    "caller": line.caller,
                }
                for line in feedback
            ],
        }
    )
