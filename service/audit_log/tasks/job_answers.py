"""A job's study is answered once: its answer is kept in the transaction that records it, by whoever holds the job."""

from __future__ import annotations

from sqlalchemy.orm import Session

from service.audit_log.entries import Task
from service.audit_log.pseudonyms import AuditLogKeys
from service.audit_log.tables import JobRow, JobStudyRow
from service.audit_log.tasks.leases import Superseded, held_row


def held(session: Session, task: Task) -> JobStudyRow | Superseded:
    """The study's row, its job locked; `Superseded` where it is not for the task's owner to answer any more."""
    job = held_row(session, JobRow, task.job_id, task.owner)
    if isinstance(job, Superseded):
        return job
    row = session.get(JobStudyRow, (task.job_id, task.study))
    if row is None or row.status is not None:
        return Superseded(f"job {task.job_id}: study {task.study} was answered before")
    return row


def keep(row: JobStudyRow, keys: AuditLogKeys, status: int, answer: bytes) -> None:
    """Keep what was answered to the study."""
    row.status = status
    row.answer = keys.newest.seal(answer, answer_place(row.job_id, row.study))


def answer_place(job_id: object, study: int) -> str:
    """For what an answer is sealed."""
    return f"job {job_id}, answer {study}"
