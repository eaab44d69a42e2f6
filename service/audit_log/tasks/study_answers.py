"""The answers of stored studies, kept in the transaction that records them, with what readers confirmed before."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, exists, select, update
from sqlalchemy.orm import Session

from consilium.domain.diagnosis import Diagnosis
from service.audit_log.entries import Entry, StudyTask
from service.audit_log.pseudonyms import AuditLogKeys
from service.audit_log.tables import FeedbackRow, ResultRow, StudyReadRow, StudyRow, StudyViewRow
from service.audit_log.tasks.leases import Superseded, held_row

RECEIVING, ANSWERED, REFUSED = "receiving", "answered", "refused"
STORED = "stored"
"""How a prior is shown whose work is done: its row is `ANSWERED`, without an answer."""


def held(session: Session, task: StudyTask) -> StudyRow | Superseded:
    """The study's row, locked; `Superseded` where it is not for the task's owner to answer any more."""
    return held_row(session, StudyRow, task.study_id, task.owner)


def keep_of_job(session: Session, study_id: UUID, keys: AuditLogKeys, entry: Entry) -> None:
    """Keep the answer for readers of a job's study, in place of those that nobody has looked at of the same study."""
    row = session.get(StudyRow, study_id, with_for_update=True)
    if row is None:
        return  # Its time was over before it had an answer.
    keep(session, row, keys, entry)
    now = datetime.now(UTC)
    looked_at = exists().where(StudyViewRow.study_id == StudyRow.study_id) | exists().where(
        StudyReadRow.study_id == StudyRow.study_id
    )
    replaced = update(StudyRow).where(*_same_study(row), StudyRow.expires > now, ~looked_at)
    session.execute(replaced.values(expires=now), execution_options={"synchronize_session": False})


def superseding(session: Session, row: StudyRow) -> UUID | None:
    """The study with the latest answer to the DICOM study of `row`; None where that is `row` itself."""
    later = StudyRow.submitted > row.submitted, StudyRow.expires > datetime.now(UTC)
    wanted = select(StudyRow.study_id).where(*_same_study(row), *later)
    return session.scalar(wanted.order_by(StudyRow.submitted.desc()).limit(1))


def _same_study(row: StudyRow) -> tuple[ColumnElement[bool], ...]:
    """Other answers to the DICOM study of `row`, which the same caller handed over for the same readers."""
    study = select(ResultRow.study).where(ResultRow.result_id == row.result_id).scalar_subquery()
    same = select(ResultRow.result_id).where(ResultRow.study == study, ResultRow.result_id != row.result_id)
    return (
        StudyRow.result_id.in_(same),
        StudyRow.reading_group == row.reading_group,
        StudyRow.caller == row.caller,
    )


def keep(session: Session, row: StudyRow, keys: AuditLogKeys, entry: Entry) -> None:
    """Keep the answer, and write what was read before it as feedback about it."""
    row.state, row.owner, row.lease, row.result_id = ANSWERED, None, None, entry.result_id
    body = entry.body if entry.readers_body is None else entry.readers_body
    row.answer = keys.newest.seal(body, study_place(row.study_id, "answer"))
    outcome = json.dumps(_outcome(entry.diagnosis)).encode()
    row.outcome = keys.newest.seal(outcome, study_place(row.study_id, "outcome"))
    row.size += len(body)
    session.flush()
    # The first read may be made while the study waits.
    known = {one.finding for one in entry.diagnosis.findings}
    for read in session.scalars(select(StudyReadRow).where(StudyReadRow.study_id == row.study_id)).all():
        session.add_all(feedback_of(read, entry.result_id, known))
    mine = update(StudyReadRow).where(StudyReadRow.study_id == row.study_id)
    session.execute(mine.values(result_id=entry.result_id))


def feedback_of(read: StudyReadRow, result_id: UUID, known: set[str]) -> list[FeedbackRow]:
    """What `read` says of the findings of an answer, as `POST /v1/feedback` keeps it."""
    return [
        FeedbackRow(
            feedback_id=read.read_id,
            finding=finding,
            result_id=result_id,
            state=state,
            time=read.time,
            caller=read.caller,
            source="feedback",
            influenced=read.influenced,
        )
        for finding, state in read.findings.items()
        if finding in known
    ]


def study_place(study_id: object, name: str) -> str:
    """For what a part of a study is sealed."""
    return f"study {study_id}, {name}"


def _outcome(diagnosis: Any) -> dict[str, Any]:
    """What the worklist shows of an answer."""
    assert isinstance(diagnosis, Diagnosis)
    return {
        "called": [one.display for one in diagnosis.findings if one.call],
        "refer_reasons": list(diagnosis.refer_reasons),
        "finding_reasons": [f"{one.display}: {why}" for one in diagnosis.findings for why in one.refer_reasons],
        "highest": max((one.probability for one in diagnosis.findings), default=0.0),
        "findings": [{"name": one.finding, "display": one.display} for one in diagnosis.findings],
    }
