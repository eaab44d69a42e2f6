"""Studies and their revisions in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from consilium.databases.database import Database
from hospital.store.clock import Clock
from hospital.store.keys import StoreKey
from hospital.store.outbox import Outbox
from hospital.store.received import Accession, PatientId
from hospital.store.records import mark_handled
from hospital.store.rows.sealed_records import accession_digest, patient_digest, study_digest
from hospital.store.rows.tables import RevisionRow, StudyRow
from hospital.store.state import Delivery, QueuedDelivery, Revision, StudyChanged, StudyStage, StudyState

_STATE = TypeAdapter(StudyState)
_REVISION = TypeAdapter(Revision)


class StudyStates:
    """How far each study is, and what was answered. Synchronous: call it on a thread."""

    def __init__(self, database: Database, key: StoreKey, outbox: Outbox, clock: Clock) -> None:
        self._database = database
        self._key = key
        self._outbox = outbox
        self._clock = clock

    def get(self, study: str) -> StudyState | None:
        """The state of a study, by its Study Instance UID."""
        with self._database.reading() as session:
            row = session.get(StudyRow, study_digest(self._key, study))
            return None if row is None else self._opened(row)

    def due(self, limit: int = 100) -> list[StudyState]:
        """Studies that the worker should look at now, the longest due first."""
        wanted = select(StudyRow).where(StudyRow.due <= self._clock()).order_by(StudyRow.due).limit(limit)
        return self._read(wanted)

    def of(self, patients: Iterable[PatientId], accession: Accession | None = None) -> list[StudyState]:
        """Studies of any of these identifiers, or of an accession number with its issuer."""
        where: ColumnElement[bool] = StudyRow.patient.in_([patient_digest(self._key, patient) for patient in patients])
        if accession is not None:
            where |= StudyRow.accession == accession_digest(self._key, accession)
        return self._read(select(StudyRow).where(where).order_by(StudyRow.last))

    def listed(self, *, stages: Sequence[StudyStage] = (), limit: int = 100) -> list[StudyState]:
        """Studies, the one that last received something first."""
        wanted = select(StudyRow).order_by(StudyRow.last.desc()).limit(limit)
        return self._read(wanted.where(StudyRow.stage.in_(stages)) if stages else wanted)

    def counts(self) -> dict[StudyStage, int]:
        with self._database.reading() as session:
            rows = session.execute(select(StudyRow.stage, func.count()).group_by(StudyRow.stage)).all()
        return {StudyStage(row[0]): row[1] for row in rows}

    def save(self, state: StudyState, handled: Sequence[int] = ()) -> StudyState:
        """Keep `state`, and note in the same transaction which records it takes account of; the state as saved.

        Raises
        ------
        StudyChanged
        """
        with self._database.writing() as session:
            saved = self._save(session, state)
            mark_handled(session, handled)
        return saved

    def answer(self, state: StudyState, revision: Revision, deliveries: Sequence[Delivery]) -> StudyState:
        """Keep `state`, its new `revision` and what is to be delivered of it, in one transaction; the state as saved.

        What still waits to be sent of earlier revisions is superseded. A revision that is known stays as it is.

        Raises
        ------
        StudyChanged
        """
        with self._database.writing() as session:
            saved = self._save(session, state)
            self._keep(session, revision)
            self._outbox.supersede(session, revision.study, revision.revision)
            for delivery in deliveries:
                self._outbox.add(session, delivery)
        self._outbox.wake()
        return saved

    def withdraw(
        self, revisions: Sequence[Revision], made: Callable[[Revision, Sequence[QueuedDelivery]], Sequence[Delivery]]
    ) -> list[Revision]:
        """Note that `revisions` of a study went to the wrong one, and put in what takes them back; as they are kept.

        What still waits to be sent of the study, whatever the revision, is superseded.

        Parameters
        ----------
        made : callable
            Makes what takes a revision back, of what was put into the outbox for it. Called once nothing more of it can
            be sent, so that what is on its way just then counts.
        """
        withdrawn = [replace(one, withdrawn=True) for one in revisions]
        with self._database.writing() as session:
            for study in {one.study for one in revisions}:
                self._outbox.supersede(session, study)
            for one in withdrawn:
                for delivery in made(one, self._outbox.read_revision(session, one.study, one.revision)):
                    self._outbox.add(session, delivery)
                same = RevisionRow.revision == one.revision
                session.execute(update(RevisionRow).where(same).values(body=self._sealed(one)))
        self._outbox.wake()
        return withdrawn

    def revisions(self, study: str) -> list[Revision]:
        """What was answered to a study, the first answer first."""
        wanted = select(RevisionRow).where(RevisionRow.study == study_digest(self._key, study))
        with self._database.reading() as session:
            return [self._revision(row) for row in session.scalars(wanted.order_by(RevisionRow.number))]

    def revision(self, revision: str) -> Revision | None:
        with self._database.reading() as session:
            row = session.get(RevisionRow, revision)
            return None if row is None else self._revision(row)

    def _read(self, wanted: Any) -> list[StudyState]:
        with self._database.reading() as session:
            return [self._opened(row) for row in session.scalars(wanted)]

    def _save(self, session: Session, state: StudyState) -> StudyState:
        saved = replace(state, version=state.version + 1)
        digest = str(study_digest(self._key, state.study))
        values = {
            "patient": patient_digest(self._key, state.patient),
            "accession": accession_digest(self._key, state.accession),
            "stage": state.stage.value,
            "due": state.due,
            "last": state.last,
            "version": saved.version,
            "body": self._key.seal(_STATE.dump_json(saved), f"study {digest}"),
        }
        if state.version == 0:
            self._insert(session, StudyRow(study=digest, **values))
            return saved
        same = (StudyRow.study == digest, StudyRow.version == state.version)
        changed = session.execute(update(StudyRow).where(*same).values(values).returning(StudyRow.study))
        if changed.first() is None:
            raise StudyChanged("the study was changed since it was read")
        return saved

    def _insert(self, session: Session, row: StudyRow) -> None:
        session.add(row)
        try:
            session.flush()
        except IntegrityError:
            raise StudyChanged("the study was made since it was looked for") from None

    def _keep(self, session: Session, revision: Revision) -> None:
        if session.get(RevisionRow, revision.revision) is not None:
            return
        study = str(study_digest(self._key, revision.study))
        row = RevisionRow(
            revision=revision.revision,
            study=study,
            number=revision.number,
            time=revision.time,
            body=self._sealed(revision),
        )
        session.add(row)
        session.flush()

    def _opened(self, row: StudyRow) -> StudyState:
        return _STATE.validate_json(self._key.unseal(row.body, f"study {row.study}"))

    def _sealed(self, revision: Revision) -> bytes:
        return self._key.seal(_REVISION.dump_json(revision), f"revision {revision.revision}")

    def _revision(self, row: RevisionRow) -> Revision:
        return _REVISION.validate_json(self._key.unseal(row.body, f"revision {row.revision}"))
