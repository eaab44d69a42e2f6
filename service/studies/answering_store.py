"""Stored studies as the processes see them that answer: taken, decoded, answered, by one process at a time.

Synchronous: `study_runner` runs it on threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import and_, delete, func, select, update
from sqlalchemy.orm import Session

from service.audit_log.database import Database
from service.audit_log.entries import StudyTask
from service.audit_log.tables import StudyChunkRow, StudyRow
from service.audit_log.tasks.leases import Superseded
from service.audit_log.tasks.study_answers import ANSWERED, REFUSED, study_place
from service.http.multipart import Form
from service.leased_work.lease_store import Held, LeaseStore
from service.leased_work.sealed_input import unsealed
from service.serving.answering import ReadForm
from service.studies.kept_views import KeptViews

FORM = "form"
_DELETED_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class TakenStudy(Held):
    """A study that this process holds.

    Attributes
    ----------
    decoded : bool
        Whether its images are stored already.
    answered : bool
        Whether the model is to be asked: of a prior readers see no more than the images.
    """

    decoded: bool
    answered: bool = True

    @property
    def task(self) -> StudyTask:
        return StudyTask(self.key, self.owner)


class AnsweringStore(LeaseStore[StudyRow, TakenStudy]):
    """Stored studies in the audit log's database."""

    rows = StudyRow

    def form(self, task: StudyTask) -> Form:
        """What was sent.

        Raises
        ------
        Superseded
            Where it was deleted meanwhile.
        Unsealable, AuditLogUnavailable
        """
        wanted = select(StudyChunkRow.data).where(StudyChunkRow.study_id == task.study_id, StudyChunkRow.name == FORM)
        with self._database.reading() as session:
            chunks = session.scalars(wanted.order_by(StudyChunkRow.chunk)).all()
        if not chunks:
            raise Superseded(f"study {task.study_id} is not there any more")
        return unsealed(chunks, self._keys, study_place(task.study_id, FORM))

    def keep_views(self, taken: TakenStudy, read: ReadForm) -> None:
        """Keep what readers see of the study: from now on they see it.

        Raises
        ------
        Superseded, AuditLogUnavailable
        """
        required, pulled = lambda session: self._required(session, taken), self._settings.studies_pacs_url is not None
        KeptViews(self._database, self._keys, taken.key, required, pulled=pulled).keep(read)

    def finish(self, taken: TakenStudy) -> None:
        """A prior, which gets no answer, is readable now.

        Raises
        ------
        Superseded, AuditLogUnavailable
        """
        with self._database.writing() as session:
            row = self._required(session, taken)
            row.state, row.owner, row.lease = ANSWERED, None, None

    def refuse(self, taken: TakenStudy, problem: bytes) -> None:
        """Keep the problem because of which the study has no answer; its images go.

        Raises
        ------
        Superseded, AuditLogUnavailable
        """
        with self._database.writing() as session:
            row = self._required(session, taken)
            row.state, row.owner, row.lease = REFUSED, None, None
            row.problem = self._keys.newest.seal(problem, study_place(row.study_id, "problem"))
        delete_chunks(self._database, taken.key)

    def forget_form(self, task: StudyTask) -> None:
        """Delete what was sent: it was answered, and what readers see of it is kept."""
        delete_chunks(self._database, task.study_id, FORM)

    def _taken(self, session: Session, row: StudyRow, owner: UUID, lost: bool) -> TakenStudy:
        del session
        return TakenStudy(row.study_id, owner, row.caller, lost, row.summary is not None, row.beside is None)


def delete_chunks(database: Database, study_id: UUID, name: str | None = None) -> None:
    """Delete the chunks of a study, or those called `name`, a little at a time; SQLite overwrites them."""
    wanted = StudyChunkRow.study_id == study_id
    if name is not None:
        wanted = and_(wanted, StudyChunkRow.name == name)
    some = select(StudyChunkRow.name, StudyChunkRow.chunk).where(wanted).limit(_DELETED_AT_ONCE)
    while True:
        with database.writing() as session:
            found = session.execute(some).all()
            for place, chunk in found:
                one = and_(
                    StudyChunkRow.study_id == study_id, StudyChunkRow.name == place, StudyChunkRow.chunk == chunk
                )
                freed = select(func.length(StudyChunkRow.data)).where(one).scalar_subquery()
                mine = update(StudyRow).where(StudyRow.study_id == study_id)
                session.execute(mine.values(size=StudyRow.size - func.coalesce(freed, 0)))
                session.execute(delete(StudyChunkRow).where(one))
            if len(found) < _DELETED_AT_ONCE:
                return
