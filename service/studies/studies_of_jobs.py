"""Studies of jobs that a reading group reads: kept by whoever answers the job, and readable once it is answered.

Until then the row is as one that is being received: no reader finds it. It is named after the job and its position, so
that whoever takes the job over finds what was kept before. Synchronous: `service.jobs.runner` runs it on threads.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

from sqlalchemy import delete
from sqlalchemy.orm import Session

from service.audit_log.entries import Task
from service.audit_log.store import Store
from service.audit_log.tables import JobRow, StudyRow
from service.audit_log.tasks.leases import Superseded, held_row
from service.audit_log.tasks.study_answers import RECEIVING
from service.serving.answering import ReadForm
from service.settings import Settings
from service.studies.answering_store import delete_chunks
from service.studies.kept_views import KeptViews


class StudiesOfJobs:
    """Stored studies in the audit log's database."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._database = store.database
        self._keys = store.keys
        self._settings = settings

    def keep(self, task: Task, caller: str, group: str, read: ReadForm) -> None:
        """Keep what readers in `group` see of the study of `task`, which `caller` handed over.

        Raises
        ------
        Superseded, AuditLogUnavailable
        """
        study_id = _study_id(task)
        with self._database.writing() as session:
            _require_held(session, task)
            row = session.get(StudyRow, study_id, with_for_update=True)
            if row is None:
                session.add(self._row(study_id, task, caller, group))
            else:
                row.owner = task.owner
        required, pulled = partial(_required, task), self._settings.studies_pacs_url is not None
        KeptViews(self._database, self._keys, study_id, required, pulled=pulled).keep(read)

    def drop(self, task: Task) -> None:
        """Delete what was kept: the study was refused."""
        study_id = _study_id(task)
        delete_chunks(self._database, study_id)
        with self._database.writing() as session:
            mine = StudyRow.study_id == study_id, StudyRow.state == RECEIVING
            session.execute(delete(StudyRow).where(*mine))

    def _row(self, study_id: UUID, task: Task, caller: str, group: str) -> StudyRow:
        now, settings = datetime.now(UTC), self._settings
        expires = now + timedelta(seconds=settings.studies_ttl_s)
        return StudyRow(
            study_id=study_id,
            reading_group=group,
            caller=caller,
            state=RECEIVING,
            submitted=now,
            pixels_until=min(expires, now + timedelta(seconds=settings.studies_pixels_s)),
            expires=expires,
            owner=task.owner,
            losses=0,
            size=0,
        )


def _study_id(task: Task) -> UUID:
    if task.stored is None:
        raise ValueError("no reading group was named for this job")
    return task.stored


def _require_held(session: Session, task: Task) -> None:
    job = held_row(session, JobRow, task.job_id, task.owner)
    if isinstance(job, Superseded):
        raise job


def _required(task: Task, session: Session) -> StudyRow:
    row = session.get(StudyRow, task.stored, with_for_update=True)
    if row is None or row.owner != task.owner:
        raise Superseded(f"study {task.stored} is another process's now")
    return row
