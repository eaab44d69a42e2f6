"""Stored studies as the processes see them that answer: taken, decoded, answered, by one process at a time.

A process holds a study by a lease, which it renews, as it holds a job. Synchronous: `study_runner` runs it on threads.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from consilium.modalities.presentation import Viewed
from service.audit_log.database import Database
from service.audit_log.entries import StudyTask
from service.audit_log.store import Store
from service.audit_log.tables import StudyChunkRow, StudyRow
from service.audit_log.tasks.job_answers import RUNNING, Superseded
from service.audit_log.tasks.study_answers import REFUSED, held, study_place
from service.http.multipart import Form
from service.jobs.sealed_input import sealed_bytes, unsealed
from service.settings import Settings
from service.studies.stored_contents import StoredContents, StoredSummary, sealed_model

QUEUED = "queued"
FORM = "form"
_MOST_LOSSES = 5
"""How often a process may die at a study before the study is thought to be the reason."""
_DELETED_AT_ONCE = 4
_LONGEST_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class TakenStudy:
    """A study that this process holds; `decoded` says whether its images are stored already."""

    task: StudyTask
    caller: str
    decoded: bool
    lost: bool
    """Processes have died at it too often."""


class AnsweringStore:
    """Stored studies in the audit log's database.

    Parameters
    ----------
    store : Store
        The audit log, with the keys that seal.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._database = store.database
        self._keys = store.keys
        self._settings = settings

    def take(self) -> TakenStudy | None:
        """The study that has waited longest: it is new, or whoever held it has not renewed its lease."""
        now = datetime.now(UTC)
        lost = and_(StudyRow.state == RUNNING, StudyRow.lease <= now)
        waiting = select(StudyRow).where(or_(StudyRow.state == QUEUED, lost), StudyRow.expires > now)
        waiting = waiting.order_by(StudyRow.submitted).limit(1)
        with self._database.reading() as session:
            if session.scalars(waiting).first() is None:
                return None
        with self._database.writing() as session:
            row = session.scalars(waiting.with_for_update(skip_locked=True)).first()
            if row is None:
                return None
            row.losses += row.state == RUNNING
            row.state, row.lease = RUNNING, self._lease()
            row.owner = owner = uuid4()
            task = StudyTask(row.study_id, owner)
            return TakenStudy(task, row.caller, row.summary is not None, lost=row.losses > _MOST_LOSSES)

    def renew(self, task: StudyTask) -> None:
        """Renew the lease of the study.

        Raises
        ------
        Superseded, AuditLogUnavailable
        """
        with self._database.writing() as session:
            _required(session, task).lease = self._lease()

    def release(self, task: StudyTask) -> None:
        """Give a study back that is not answered, so that another process can take it at once."""
        with self._database.writing() as session:
            row = _required(session, task)
            row.state, row.owner, row.lease = QUEUED, None, None

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

    def keep_views(
        self,
        task: StudyTask,
        contents: tuple[StoredSummary, StoredContents],
        viewed: Mapping[str, Sequence[Viewed]],
    ) -> None:
        """Keep what readers see of the study: from now on they see it.

        Raises
        ------
        Superseded, AuditLogUnavailable
        """
        added = 0
        for place, one in _places(viewed):
            data = one.words.tobytes()
            self._keep_words(task, place, data)
            added += len(data)
        with self._database.writing() as session:
            row = _required(session, task)
            if row.summary is not None:
                return  # Of an earlier attempt.
            row.summary = sealed_model(self._keys, row.study_id, "summary", contents[0])
            row.contents = sealed_model(self._keys, row.study_id, "contents", contents[1])
            row.size += added + len(row.contents)

    def refuse(self, task: StudyTask, problem: bytes) -> None:
        """Keep the problem because of which the study has no answer; its images go.

        Raises
        ------
        Superseded, AuditLogUnavailable
        """
        with self._database.writing() as session:
            row = _required(session, task)
            row.state, row.owner, row.lease = REFUSED, None, None
            row.problem = self._keys.newest.seal(problem, study_place(row.study_id, "problem"))
        delete_chunks(self._database, task.study_id)

    def forget_form(self, task: StudyTask) -> None:
        """Delete what was sent: it was answered, and what readers see of it is kept."""
        delete_chunks(self._database, task.study_id, FORM)

    def _keep_words(self, task: StudyTask, place: str, data: bytes) -> None:
        whose = StudyChunkRow.study_id == task.study_id, StudyChunkRow.name == place
        with self._database.reading() as session:
            there = set(session.scalars(select(StudyChunkRow.chunk).where(*whose)).all())
        for number, chunk in enumerate(sealed_bytes(data, self._keys, study_place(task.study_id, place))):
            if number in there:
                continue
            begun = time.monotonic()
            with self._database.writing() as session:
                _required(session, task)
                session.add(StudyChunkRow(study_id=task.study_id, name=place, chunk=number, data=chunk))
            # SQLite has one writer at a time: whoever waits for an answer gets a turn in between.
            time.sleep(min(time.monotonic() - begun, _LONGEST_PAUSE_S))

    def _lease(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._settings.job_lease_s)


def _places(viewed: Mapping[str, Sequence[Viewed]]) -> Iterable[tuple[str, Viewed]]:
    return ((words_name(name, number), one) for name, files in viewed.items() for number, one in enumerate(files))


def words_name(name: str, number: int) -> str:
    """What the words of one file are called: ``images[0]``."""
    return f"{name}[{number}]"


def _required(session: Session, task: StudyTask) -> StudyRow:
    row = held(session, task)
    if isinstance(row, Superseded):
        raise row
    return row


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
