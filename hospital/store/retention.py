"""How long the store keeps what it holds: records, files, messages, answers and deliveries are deleted by age."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, select, true

from hospital.store.gateway_store import Store
from hospital.store.rows.tables import (
    ClaimRow,
    DeliveryRow,
    MessageRow,
    PriorSearchRow,
    RecordRow,
    RevisionRow,
    StudyRow,
)
from hospital.store.state import DeliveryStage, StudyStage

_AT_ONCE = 500
_OPEN = (StudyStage.ASSEMBLING, StudyStage.REQUESTED)


@dataclass(frozen=True, slots=True)
class Purged:
    """How many of each were deleted."""

    records: int
    messages: int
    studies: int
    revisions: int
    deliveries: int
    claims: int
    prior_searches: int


def purge(store: Store, keep: timedelta) -> Purged:
    """Delete what is older than `keep`, with its files; SQLite overwrites what it deletes.

    What still has work to do stays: records that no study has taken account of, studies that are not answered, with
    their records, deliveries that wait, and searches for priors that have some to take back. Merges of patients stay,
    because what comes later is filed by them.
    """
    before = store.clock() - keep
    studies = _delete(store, StudyRow, StudyRow.study, (StudyRow.last < before) & StudyRow.stage.not_in(_OPEN))
    purged = Purged(
        records=_delete_records(store, before),
        messages=_delete(store, MessageRow, MessageRow.number, MessageRow.received < before),
        studies=studies,
        revisions=_delete(store, RevisionRow, RevisionRow.revision, _without_study(before)),
        deliveries=_delete(
            store,
            DeliveryRow,
            DeliveryRow.number,
            (DeliveryRow.ended < before) & (DeliveryRow.stage != DeliveryStage.WAITING),
        ),
        claims=_delete(store, ClaimRow, ClaimRow.claim, ClaimRow.ended < before),
        prior_searches=_delete(store, PriorSearchRow, PriorSearchRow.study, _ended_search(before)),
    )
    store.database.shrink()
    return purged


def _ended_search(before: datetime) -> ColumnElement[bool]:
    return (PriorSearchRow.until < before) & PriorSearchRow.due.is_(None)


def _without_study(before: datetime) -> ColumnElement[bool]:
    return (RevisionRow.time < before) & RevisionRow.study.not_in(select(StudyRow.study))


def _delete_records(store: Store, before: datetime) -> int:
    """Rows first, then their files: what is left between the two is removed with what no row names."""
    kept = select(StudyRow.study)
    old = (RecordRow.received < before) & (RecordRow.handled == true())
    where = old & (RecordRow.study.is_(None) | RecordRow.study.not_in(kept))
    number = 0
    while True:
        with store.database.writing() as session:
            found = session.execute(select(RecordRow.number, RecordRow.file).where(where).limit(_AT_ONCE)).all()
            session.execute(delete(RecordRow).where(RecordRow.number.in_([row[0] for row in found])))
        for row in found:
            if row[1] is not None:
                store.files.remove(row[1])
        number += len(found)
        if len(found) < _AT_ONCE:
            return number


def _delete(store: Store, table: Any, key: Any, where: ColumnElement[bool]) -> int:
    """A little at a time: what is received meanwhile waits for the same lock."""
    number = 0
    while True:
        with store.database.writing() as session:
            found = session.scalars(select(key).where(where).limit(_AT_ONCE)).all()
            session.execute(delete(table).where(key.in_(found)))
        number += len(found)
        if len(found) < _AT_ONCE:
            return number
