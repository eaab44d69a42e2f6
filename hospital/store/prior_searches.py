"""Searches for earlier studies of a patient, and how far each is: what a gateway goes on with after a restart."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from pydantic import TypeAdapter
from sqlalchemy import select
from sqlalchemy.orm import Session

from consilium.databases.database import Database
from hospital.store.clock import Clock
from hospital.store.keys import StoreKey
from hospital.store.received import PatientId
from hospital.store.rows.sealed_records import study_digest
from hospital.store.rows.tables import PriorSearchRow


@dataclass(frozen=True, slots=True)
class PriorSearch:
    """The search for priors of one study.

    Attributes
    ----------
    study : str
        Study Instance UID of the study beside which they are shown.
    route : str
        Name of the route that asks for them.
    patients : tuple of PatientId
        Every identifier of the patient, the one that stays first.
    taken : datetime
        When the study was made.
    until : datetime
        What could not be had by then is done without.
    due : datetime or None
        When to look next; None: it is ended.
    attempts : int
        In a row that failed.
    handed : tuple of str
        Study Instance UIDs of the priors that the service was given.
    shown : tuple of str
        The ids under which the service keeps these.
    taken_back : tuple of str
        Ids of priors that it is to delete: they were of somebody who turned out to be another person.
    problem : str, optional
        What the last attempt met; without names and identifiers.
    """

    study: str
    route: str
    patients: tuple[PatientId, ...] = field(repr=False)
    taken: datetime
    until: datetime
    due: datetime | None
    attempts: int = 0
    handed: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    taken_back: tuple[str, ...] = ()
    problem: str | None = None

    def ended(self, problem: str | None = None) -> PriorSearch:
        """The same, with nothing more to be done."""
        return replace(self, due=None, problem=problem)


_SEARCH = TypeAdapter(PriorSearch)


class PriorSearches:
    """Searches in the store. Synchronous: call it on a thread."""

    def __init__(self, database: Database, key: StoreKey, clock: Clock) -> None:
        self._database = database
        self._key = key
        self._clock = clock

    def get(self, study: str) -> PriorSearch | None:
        with self._database.reading() as session:
            return self._read(session, self._place(study))

    def next(self) -> PriorSearch | None:
        """The search that is due, and has been for longest."""
        wanted = select(PriorSearchRow).where(PriorSearchRow.due <= self._clock()).order_by(PriorSearchRow.due).limit(1)
        with self._database.reading() as session:
            row = session.scalars(wanted).first()
            return None if row is None else self._opened(row)

    def begin(self, search: PriorSearch) -> None:
        """Look for priors of a study, in place of an earlier search of it."""
        with self._database.writing() as session:
            self._write(session, search)

    def save(self, search: PriorSearch) -> PriorSearch:
        """Keep how far a search is, unless another one was begun meanwhile."""
        with self._database.writing() as session:
            known = self._read(session, self._place(search.study))
            if known is not None and (known.patients, known.route) == (search.patients, search.route):
                self._write(session, search)
        return search

    def _write(self, session: Session, search: PriorSearch) -> None:
        place = self._place(search.study)
        body = self._key.seal(_SEARCH.dump_json(search), f"prior search {place}")
        session.merge(PriorSearchRow(study=place, due=search.due, until=search.until, body=body))

    def _read(self, session: Session, place: str) -> PriorSearch | None:
        row = session.get(PriorSearchRow, place)
        return None if row is None else self._opened(row)

    def _opened(self, row: PriorSearchRow) -> PriorSearch:
        return _SEARCH.validate_json(self._key.unseal(row.body, f"prior search {row.study}"))

    def _place(self, study: str) -> str:
        return str(study_digest(self._key, study))
