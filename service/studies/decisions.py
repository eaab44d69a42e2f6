"""What readers decide of stored studies: reads and flags, which are never changed, and what is known of them.

Synchronous: `study_runner` runs it on threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

from sqlalchemy import Select, select, tuple_
from sqlalchemy.orm import Session

from consilium.api.schemas import (
    FlagAnswer,
    FlagRequest,
    ReadableFinding,
    ReadAnswer,
    ReadingState,
    ReadRequest,
    ViewAnswer,
)
from consilium.domain.errors import InputError
from service.audit_log.store import Store, require_finding
from service.audit_log.tables import ResultRow, StudyFlagRow, StudyReadRow, StudyRow, StudyViewRow
from service.audit_log.tasks.study_answers import ANSWERED, feedback_of
from service.settings import Settings
from service.studies.reader import Reader, found, has_read, revealed, sees

MOST_ROWS = 1000


class Decisions:
    """Reads, flags and views in the audit log's database."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._database = store.database
        self._settings = settings

    def add_read(self, study_id: UUID, reader: Reader, asked: ReadRequest, findings: Sequence[str]) -> ReadAnswer:
        """Record what `reader` decided, and what that says of the answer as feedback.

        Parameters
        ----------
        findings : sequence of str
            Those of the model that serves.

        Raises
        ------
        NoSuchStudy, AuditLogUnavailable
        InputError
            For a finding that is none, a first read after the answer was seen, or a revised one before any.
        """
        with self._database.writing() as session:
            row = found(session, study_id, reader, lock=True)
            result = None if row.result_id is None else session.get(ResultRow, row.result_id)
            answered = list(findings) if result is None else [one["finding"] for one in result.findings]
            for name in asked.findings:
                require_finding(name, answered, "findings")
            influenced = sees(session, row, reader, self._settings)
            self._check_kind(asked, influenced, has_read(session, study_id, reader))
            read = StudyReadRow(
                read_id=uuid4(),
                study_id=study_id,
                result_id=None if result is None else result.result_id,
                kind=asked.kind,
                findings=dict(asked.findings),
                influenced=influenced,
                time=datetime.now(UTC),
                caller=reader.caller,
            )
            session.add(read)
            if result is not None:
                session.add_all(feedback_of(read, result.result_id, set(answered)))
            session.flush()
            return _read(read, shown=sees(session, row, reader, self._settings))

    def add_flag(self, study_id: UUID, reader: Reader, asked: FlagRequest, findings: Sequence[str]) -> FlagAnswer:
        """Record that `reader` wants a study looked at again.

        Raises
        ------
        NoSuchStudy, InputError, AuditLogUnavailable
        """
        if asked.finding is not None:
            require_finding(asked.finding, findings, "finding")
        with self._database.writing() as session:
            found(session, study_id, reader)
            flag = StudyFlagRow(
                flag_id=uuid4(),
                study_id=study_id,
                reason=asked.reason,
                finding=asked.finding,
                time=datetime.now(UTC),
                caller=reader.caller,
            )
            session.add(flag)
            session.flush()
            return _flag(flag)

    def reads(self, after: UUID | None, limit: int) -> list[ReadAnswer]:
        """Reads of everybody, oldest first, from the one behind `after` on."""
        page = select(StudyReadRow).order_by(StudyReadRow.time, StudyReadRow.read_id).limit(limit)
        with self._database.reading() as session:
            if after is not None:
                last = session.get(StudyReadRow, after)
                if last is None:
                    raise InputError("after", str(after), "must be the read_id of a read")
                page = page.where(tuple_(StudyReadRow.time, StudyReadRow.read_id) > (last.time, last.read_id))
            return [_read(row, shown=True) for row in session.scalars(page)]

    def views(self, study_id: UUID, limit: int = MOST_ROWS) -> list[ViewAnswer]:
        """Who saw what of a study, latest first; also of one that was deleted."""
        mine = select(StudyViewRow).where(StudyViewRow.study_id == study_id)
        with self._database.reading() as session:
            rows = session.scalars(mine.order_by(StudyViewRow.time.desc(), StudyViewRow.view_id).limit(limit))
            return [ViewAnswer(study_id=row.study_id, what=row.what, time=row.time, caller=row.caller) for row in rows]

    @staticmethod
    def _check_kind(asked: ReadRequest, influenced: bool, has_one: bool) -> None:
        if asked.kind == "first" and influenced and has_one:
            raise InputError("kind", asked.kind, "must be revised: the answer was shown to this caller after his first")
        if asked.kind == "revised" and not has_one:
            raise InputError("kind", asked.kind, "must be first: this caller has not read the study yet")


def reading_state(
    session: Session, row: StudyRow, reader: Reader, settings: Settings, findings: Sequence[Mapping[str, str]]
) -> ReadingState:
    """What `reader` may see of the answer, what was read, and which `findings` there are, by name and display."""
    shown = sees(session, row, reader, settings)
    reads = [_read(one, shown=shown) for one in session.scalars(_of_study(row.study_id))]
    own = [one for one in reads if one.caller == reader.caller]
    flags = select(StudyFlagRow).where(StudyFlagRow.study_id == row.study_id).order_by(StudyFlagRow.time)
    return ReadingState(
        policy=settings.studies_answer,
        may_see_answer=row.state == ANSWERED
        and row.beside is None
        and (shown or settings.studies_answer == "on_demand"),
        findings=tuple(ReadableFinding(**one) for one in findings),
        revealed=revealed(session, row.study_id, reader),
        first_read=_latest(own, "first"),
        revised_read=_latest(own, "revised"),
        others=tuple(one for one in reads if one.caller != reader.caller) if shown else (),
        flags=tuple(_flag(flag) for flag in session.scalars(flags)),
    )


def ndjson(reads: Sequence[ReadAnswer]) -> Iterator[bytes]:
    """A line for each read."""
    return (read.model_dump_json().encode() + b"\n" for read in reads)


def _of_study(study_id: UUID) -> Select[StudyReadRow]:
    return select(StudyReadRow).where(StudyReadRow.study_id == study_id).order_by(StudyReadRow.time)


def _latest(reads: Sequence[ReadAnswer], kind: str) -> ReadAnswer | None:
    return next((one for one in reversed(reads) if one.kind == kind), None)


def _read(row: StudyReadRow, *, shown: bool) -> ReadAnswer:
    """Without the answer's id where that is not `shown`: by it the answer could be asked for elsewhere."""
    return ReadAnswer.model_validate(
        {
            "read_id": row.read_id,
            "study_id": row.study_id,
            "kind": row.kind,
            "findings": row.findings,
            "influenced": row.influenced,
            "time": row.time,
            "caller": row.caller,
            "result_id": row.result_id if shown else None,
        }
    )


def _flag(row: StudyFlagRow) -> FlagAnswer:
    return FlagAnswer.model_validate(
        {
            "flag_id": row.flag_id,
            "study_id": row.study_id,
            "reason": row.reason,
            "finding": row.finding,
            "time": row.time,
            "caller": row.caller,
        }
    )
