"""Identifiers of one person: merges as the registration system reports them, followed to the one that stays."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import TypeAdapter
from sqlalchemy import select
from sqlalchemy.orm import Session

from consilium.databases.database import Database
from hospital.store.keys import StoreKey
from hospital.store.received import PatientId, PatientMerge
from hospital.store.rows.sealed_records import patient_digest, to_json
from hospital.store.rows.tables import AliasRow

_MERGE = TypeAdapter(PatientMerge)
_LONGEST_CHAIN = 16
"""Merges one after the other; more are a mistake, or an attack."""
_MOST_ALIASES = 256


class Patients:
    """Which identifiers are one person's."""

    def __init__(self, database: Database, key: StoreKey) -> None:
        self._database = database
        self._key = key

    def same(self, patient: PatientId) -> tuple[PatientId, ...]:
        """Every identifier of the person that `patient` names, the one that stays first.

        An identifier that was never merged stands alone. They are never guessed: only merges join them.
        """
        with self._database.reading() as session:
            wanted = str(patient_digest(self._key, patient))
            stays, known = self._up(session, wanted)
            found = {wanted: patient} | known | self._down(session, stays)
        first = found.pop(stays)
        return (first, *found.values())

    def _up(self, session: Session, digest: str) -> tuple[str, dict[str, PatientId]]:
        """The identifier that stays at the end, and every one on the way."""
        known: dict[str, PatientId] = {}
        for _ in range(_LONGEST_CHAIN):
            row = session.get(AliasRow, digest)
            if row is None:
                break
            known[row.stays] = self._opened(row).stays
            digest = row.stays
        return digest, known

    def _down(self, session: Session, stays: str) -> dict[str, PatientId]:
        """Every identifier that ends at `stays`."""
        known: dict[str, PatientId] = {}
        level: Iterable[str] = [stays]
        while level and len(known) < _MOST_ALIASES:
            rows = session.scalars(select(AliasRow).where(AliasRow.stays.in_(level)).limit(_MOST_ALIASES)).all()
            known |= {row.goes: self._opened(row).goes for row in rows}
            level = [row.goes for row in rows]
        return known

    def _opened(self, row: AliasRow) -> PatientMerge:
        return _opened(self._key, row)


def _opened(key: StoreKey, row: AliasRow) -> PatientMerge:
    return _MERGE.validate_json(key.unseal(row.body, f"alias {row.goes}"))


def merge(session: Session, key: StoreKey, given: PatientMerge) -> tuple[str | None, PatientId | None]:
    """Join two identifiers in `session`; why not, where they cannot be; and from whom one of them was taken away.

    A later merge of the same identifier takes the place of an earlier one. One that would close a circle, as when a
    system sends the same merge back inverted, is refused.
    """
    stays, goes = str(patient_digest(key, given.stays)), str(patient_digest(key, given.goes))
    row = session.get(AliasRow, goes)
    if row is not None and row.time > given.time:
        return None, None
    refused = _refusal(session, stays, goes)
    if refused is not None:
        return refused, None
    former = None if row is None or row.stays == stays else _opened(key, row).stays
    body = key.seal(to_json(given), f"alias {goes}")
    session.merge(AliasRow(goes=goes, stays=stays, time=given.time, body=body))
    return None, former


def _refusal(session: Session, stays: str, goes: str) -> str | None:
    for _ in range(_LONGEST_CHAIN - _height(session, goes)):
        if stays == goes:
            return "this merge and earlier ones would make a circle of identifiers"
        row = session.get(AliasRow, stays)
        if row is None:
            return None
        stays = row.stays
    return f"this merge would make a chain of more than {_LONGEST_CHAIN} identifiers"


def _height(session: Session, digest: str) -> int:
    """How long the longest chain is that ends at `digest`."""
    height, level = 0, [digest]
    while level and height < _LONGEST_CHAIN:
        level = list(session.scalars(select(AliasRow.goes).where(AliasRow.stays.in_(level)).limit(_MOST_ALIASES)))
        height += bool(level)
    return height
