"""Searches for earlier studies of a patient, and how far each is: what a gateway goes on with after a restart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

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
class ShownPrior:
    """A prior that a service was given: the service's name, and the id under which it keeps it."""

    service: str
    prior: str


class PriorOutcome(StrEnum):
    """How far a prior that a source has is."""

    FOUND = "found"
    FETCHED = "fetched"
    HANDED_OVER = "handed over"
    SHOWN = "shown"
    LEFT_OUT = "left out"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FoundPrior:
    """A prior that a source has: its Study Instance UID, how far it is, and why no further; without names."""

    study: str
    source: str
    outcome: PriorOutcome = PriorOutcome.FOUND
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """A hand-over that got no answer yet: by which key, in which round, and to which service, which may keep it."""

    service: str
    key: str
    round: int


@dataclass(frozen=True, slots=True)
class PriorSearch:
    """The search for priors of one study.

    Attributes
    ----------
    study : str
        Study Instance UID of the study beside which they are shown.
    route : str
        Name of the route that asks for them.
    service : str
        Name of the service that shows them.
    group : str
        Reading group that sees them.
    patients : tuple of PatientId
        Every identifier of the patient, the one that stays first; none: nothing is looked for any more.
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
    shown : tuple of ShownPrior
        The same, as the service keeps them.
    decoded : int
        How many of these, the first ones, the service has decoded.
    refused : tuple of str
        Study Instance UIDs of the priors that it cannot decode.
    taken_back : tuple of ShownPrior
        What is to be deleted: it was refused, or of somebody who turned out to be another person.
    round : int
        Which search of the study this is. What is handed over anew after it was taken back is no repetition.
    offers : tuple of Offer
        Hand-overs without an answer: what the service keeps of them is found by a repetition, or taken back.
    reviews : int
        How often it was looked what the service keeps of them. What is handed over after that is no repetition, either.
    found : tuple of FoundPrior
        What the sources have.
    problem : str, optional
        What the last attempt met; without names and identifiers.
    """

    study: str
    route: str
    service: str
    group: str
    patients: tuple[PatientId, ...] = field(repr=False)
    taken: datetime
    until: datetime
    due: datetime | None
    attempts: int = 0
    handed: tuple[str, ...] = ()
    shown: tuple[ShownPrior, ...] = ()
    decoded: int = 0
    refused: tuple[str, ...] = ()
    taken_back: tuple[ShownPrior, ...] = ()
    round: int = 0
    offers: tuple[Offer, ...] = ()
    reviews: int = 0
    found: tuple[FoundPrior, ...] = ()
    problem: str | None = None

    def ended(self, problem: str | None = None) -> PriorSearch:
        """The same, with nothing more to be done."""
        return replace(self, due=None, problem=problem)

    def wants_as(self, other: PriorSearch) -> bool:
        """Whether it looks for the same person's priors, for the same readers."""
        return set(self.patients) == set(other.patients) and self._for_whom == other._for_whom

    def after(self, earlier: PriorSearch) -> PriorSearch:
        """The same in place of an `earlier` one: what that one showed stays where the person has only grown."""
        begun = replace(self, round=earlier.round + 1, taken_back=earlier.taken_back)
        begun = replace(begun, offers=earlier.offers, reviews=earlier.reviews)
        if self._for_whom != earlier._for_whom or not set(earlier.patients) <= set(self.patients):
            return begun.without(earlier.shown)
        kept = replace(begun, handed=earlier.handed, shown=earlier.shown, decoded=earlier.decoded)
        return replace(kept, refused=earlier.refused, found=earlier.found)

    def without(self, shown: Iterable[ShownPrior]) -> PriorSearch:
        """The same, with what was `shown` to be taken back."""
        return replace(self, taken_back=tuple(dict.fromkeys((*self.taken_back, *shown))))

    def with_found(self, priors: Iterable[tuple[str, str]]) -> PriorSearch:
        """The same, with what sources have: each prior's source and Study Instance UID."""
        known = {one.study: one for one in self.found}
        return replace(
            self, found=tuple(({study: FoundPrior(study, source) for source, study in priors} | known).values())
        )

    def with_outcome(self, study: str, outcome: PriorOutcome, reason: str | None = None) -> PriorSearch:
        """The same, with how far one of the priors is."""
        changed = (replace(one, outcome=outcome, reason=reason) if one.study == study else one for one in self.found)
        return replace(self, found=tuple(changed))

    @property
    def _for_whom(self) -> tuple[str, str, str]:
        return self.route, self.service, self.group


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
        """Look for priors of a study, in place of an earlier search of it.

        What that one showed is taken back, unless the person has only grown and the readers are the same.
        """
        with self._database.writing() as session:
            known = self._read(session, self._place(search.study))
            self._write(session, search if known is None else search.after(known))

    def withdraw(self, study: str) -> None:
        """Take back what is shown of the priors of a study, and look for no more."""
        if self.get(study) is None:
            return
        with self._database.writing() as session:
            known = self._read(session, self._place(study))
            if known is None or not known.patients:
                return
            none = replace(known, patients=(), handed=(), shown=(), decoded=0, refused=(), found=(), attempts=0)
            self._write(session, replace(none.without(known.shown), round=known.round + 1, due=self._clock()))

    def save(self, search: PriorSearch) -> PriorSearch:
        """Keep how far a search is; the search as it is in the store.

        Where another one was begun meanwhile, that one stays, and takes back what `search` has shown beyond it.
        """
        with self._database.writing() as session:
            known = self._read(session, self._place(search.study))
            if known is not None and known.round != search.round:
                lost = [one for one in search.shown if one not in known.shown]
                if not lost:
                    return known
                search = replace(known.without(lost), due=self._clock())
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
