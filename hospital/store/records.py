"""What was received, as the study worker and the command read it: of everything the latest version."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import TypeVar, cast

from sqlalchemy import ColumnElement, false, func, select, update
from sqlalchemy.orm import Session

from consilium.databases.database import Database
from hospital.store.keys import StoreKey
from hospital.store.received import (
    Accession,
    PatientId,
    PatientUpdate,
    RawMessage,
    Received,
    ReceivedInstance,
    ReceivedNote,
    ReceivedObservation,
    ReceivedOrder,
    ReceivedRejection,
    ReceivedStep,
    Status,
)
from hospital.store.rows.sealed_records import KINDS, accession_digest, opened, patient_digest, record_key, study_digest
from hospital.store.rows.tables import MessageRow, RecordRow
from hospital.store.state import Stored

_T = TypeVar("_T", bound=Received)
_V = TypeVar("_V", ReceivedObservation, ReceivedNote)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message in the store, with the number of its row."""

    number: int
    message: RawMessage


class Records:
    """Reads of what the inbox stored. Synchronous: call them on a thread."""

    def __init__(self, database: Database, key: StoreKey) -> None:
        self._database = database
        self._key = key

    def unhandled(self, limit: int = 500) -> list[Stored]:
        """What the study worker has not handled yet, oldest first; see `StudyStates.save` and `mark_handled`."""
        wanted = select(RecordRow).where(RecordRow.handled == false()).order_by(RecordRow.number).limit(limit)
        with self._database.reading() as session:
            return [Stored(row.number, opened(self._key, row)) for row in session.scalars(wanted)]

    def after(self, number: int, before: datetime, limit: int = 500) -> list[Stored]:
        """Records behind row `number` that were received before `before`, oldest first, up to the first later one."""
        wanted = select(RecordRow).where(RecordRow.number > number).order_by(RecordRow.number).limit(limit)
        with self._database.reading() as session:
            rows = takewhile(lambda row: row.received < before, session.scalars(wanted))
            return [Stored(row.number, opened(self._key, row)) for row in rows]

    def last_number(self) -> int:
        """That of the latest record; 0 where there is none."""
        with self._database.reading() as session:
            return session.scalar(select(func.max(RecordRow.number))) or 0

    def mark_handled(self, numbers: Sequence[int]) -> None:
        """Note that records need no more of the study worker's attention."""
        with self._database.writing() as session:
            mark_handled(session, numbers)

    def instances(self, study: str) -> list[ReceivedInstance]:
        """Of every instance of a study the version that came last, in the order in which they first came."""
        return self._latest(ReceivedInstance, RecordRow.study == study_digest(self._key, study))

    def rejections(self, study: str) -> list[ReceivedRejection]:
        return self._latest(ReceivedRejection, RecordRow.study == study_digest(self._key, study))

    def steps(self, study: str) -> list[ReceivedStep]:
        return self._latest(ReceivedStep, RecordRow.study == study_digest(self._key, study))

    def step(self, step: str) -> ReceivedStep | None:
        """What was last received of a performed procedure step, by its SOP Instance UID."""
        name = RecordRow.key == self._key.digest(f"{KINDS[ReceivedStep]} key", step)
        return next(iter(self._latest(ReceivedStep, name)), None)

    def observations(self, patients: Iterable[PatientId]) -> list[ReceivedObservation]:
        """Of every value of these identifiers the version that holds, which may be that it is withdrawn.

        A preliminary version holds until another one comes; where it came after another one, both are given. A value
        that its source has sent for another patient since is no longer of the former one.
        """
        return self._holding(ReceivedObservation, patients)

    def notes(self, patients: Iterable[PatientId]) -> list[ReceivedNote]:
        """As `observations`."""
        return self._holding(ReceivedNote, patients)

    def other_patients(self, record: ReceivedObservation | ReceivedNote) -> list[PatientId]:
        """Other patients for whom earlier versions of a value or note were sent."""
        versions = select(RecordRow).where(
            RecordRow.kind == KINDS[type(record)],
            RecordRow.key == record_key(self._key, record),
            RecordRow.patient != patient_digest(self._key, record.patient),
        )
        with self._database.reading() as session:
            found = [opened(self._key, row) for row in session.scalars(versions)]
        return [cast(ReceivedObservation | ReceivedNote, one).patient for one in found]

    def updates(self, patients: Iterable[PatientId]) -> list[PatientUpdate]:
        """What registration systems last said of each of these identifiers."""
        return self._latest(PatientUpdate, self._of(patients))

    def orders(
        self, *, study: str | None = None, accession: Accession | None = None, patients: Iterable[PatientId] = ()
    ) -> list[ReceivedOrder]:
        """Orders that name the study, the accession number with its issuer, or one of the patients."""
        where = self._of(patients)
        if study is not None:
            where |= RecordRow.study == study_digest(self._key, study)
        if accession is not None:
            where |= RecordRow.accession == accession_digest(self._key, accession)
        # Of an order that another patient has by now, the version that names him counts, whoever is asked for.
        named = select(RecordRow.key).where(RecordRow.kind == KINDS[ReceivedOrder], where)
        return self._latest(ReceivedOrder, RecordRow.key.in_(named))

    def latest_order(self, order: ReceivedOrder) -> ReceivedOrder | None:
        """The version of `order` that counts now."""
        return next(iter(self._latest(ReceivedOrder, RecordRow.key == record_key(self._key, order))), None)

    def messages(self, *, with_problem: bool = False, limit: int = 100) -> list[StoredMessage]:
        """Messages as they came, the latest first; `with_problem`: those that were not understood as a whole."""
        wanted = select(MessageRow).order_by(MessageRow.number.desc()).limit(limit)
        if with_problem:
            wanted = wanted.where(MessageRow.problem.is_not(None))
        with self._database.reading() as session:
            return [self._message(row) for row in session.scalars(wanted)]

    def message(self, number: int) -> StoredMessage | None:
        with self._database.reading() as session:
            row = session.get(MessageRow, number)
            return None if row is None else self._message(row)

    def _message(self, row: MessageRow) -> StoredMessage:
        content = self._key.unseal(row.body, f"message {row.key}")
        raw = RawMessage(row.protocol, row.key, content, row.received, row.source, row.problem)  # type: ignore[arg-type]
        return StoredMessage(row.number, raw)

    def _of(self, patients: Iterable[PatientId]) -> ColumnElement[bool]:
        digests = [patient_digest(self._key, patient) for patient in patients]
        return RecordRow.patient.in_(digests)

    def _holding(self, of: type[_V], patients: Iterable[PatientId]) -> list[_V]:
        """By key, in the order in which they first came: the latest version, and what it leaves in force."""
        whose = frozenset(patients)
        named = select(RecordRow.key).where(RecordRow.kind == KINDS[of], self._of(whose))
        wanted = select(RecordRow).where(RecordRow.kind == KINDS[of], RecordRow.key.in_(named))
        versions: dict[str, list[RecordRow]] = {}
        with self._database.reading() as session:
            for row in session.scalars(wanted.order_by(RecordRow.number)):
                versions.setdefault(row.key, []).append(row)
            in_force = [one for rows in versions.values() for one in self._in_force(of, rows)]
        return [one for one in in_force if one.patient in whose]

    def _in_force(self, of: type[_V], rows: list[RecordRow]) -> list[_V]:
        """Of the versions of one value or note; the latest last."""
        found: list[_V] = []
        for row in sorted(rows, key=lambda one: (one.issued, one.number), reverse=True):
            version = cast(_V, opened(self._key, row))
            if version.status is not Status.PRELIMINARY:
                found.insert(0, version)
                break
            if not found:
                found.append(version)
        return found

    def _latest(self, of: type[_T], where: ColumnElement[bool]) -> list[_T]:
        wanted = select(RecordRow).where(RecordRow.kind == KINDS[of], where)
        latest: dict[str, RecordRow] = {}
        with self._database.reading() as session:
            for row in session.scalars(wanted.order_by(RecordRow.number)):
                before = latest.get(row.key)
                if before is None or before.issued <= row.issued:
                    latest[row.key] = row
            return [cast(_T, opened(self._key, row)) for row in latest.values()]


def mark_handled(session: Session, numbers: Sequence[int]) -> None:
    for start in range(0, len(numbers), 500):
        some = numbers[start : start + 500]
        session.execute(update(RecordRow).where(RecordRow.number.in_(some)).values(handled=True))
