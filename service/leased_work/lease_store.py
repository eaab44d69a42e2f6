"""Rows that one process at a time holds, by a lease which it renews; where it dies, another takes the row over.

Whatever a process does to a row it does as its owner: one that was too slow, and has lost the row meanwhile, does
nothing any more. Synchronous: `LeaseWorker` runs it on threads.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from service.audit_log.database import Database
from service.audit_log.store import Store
from service.audit_log.tables import Base, LeasedRow
from service.audit_log.tasks.leases import QUEUED, RUNNING, Superseded, held_row
from service.settings import Settings

_MOST_LOSSES = 5
"""How often a process may die at a row before the row is thought to be the reason."""
_LONGEST_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class Held:
    """A row that this process holds.

    Attributes
    ----------
    key : UUID
    owner : UUID
        Of this taking; another process's, or a later one's, has another.
    caller : str
        Who handed it over.
    lost : bool
        Processes have died at it too often: it is not to be tried again.
    """

    key: UUID
    owner: UUID
    caller: str
    lost: bool


Row = TypeVar("Row", bound=LeasedRow)
Taken = TypeVar("Taken", bound=Held)


class LeaseStore(ABC, Generic[Row, Taken]):
    """Rows of one table of the audit log's database, `rows`.

    Parameters
    ----------
    store : Store
        The audit log, with the keys that seal.
    """

    rows: ClassVar[type[Any]]

    def __init__(self, store: Store, settings: Settings) -> None:
        self._database = store.database
        self._keys = store.keys
        self._settings = settings

    def take(self) -> Taken | None:
        """The row that has waited longest: it is new, or whoever held it has not renewed its lease."""
        now, rows = datetime.now(UTC), self.rows
        lapsed = and_(rows.state == RUNNING, rows.lease <= now)
        waiting = select(rows).where(or_(rows.state == QUEUED, lapsed), rows.expires > now)
        waiting = waiting.order_by(rows.submitted).limit(1)
        with self._database.reading() as session:
            if session.scalars(waiting).first() is None:
                return None  # Most often; and nobody had to wait for us.
        with self._database.writing() as session:
            row: Row | None = session.scalars(waiting.with_for_update(skip_locked=True)).first()
            if row is None:
                return None
            row.losses += row.state == RUNNING
            row.state, row.owner, row.lease = RUNNING, uuid4(), self._lease()
            return self._taken(session, row, row.owner, row.losses > _MOST_LOSSES)

    def renew(self, taken: Taken) -> None:
        """Renew the lease.

        Raises
        ------
        Superseded, AuditLogUnavailable
        """
        with self._database.writing() as session:
            self._required(session, taken).lease = self._lease()

    def release(self, taken: Taken) -> None:
        """Give a row back that is not finished, so that another process can take it at once.

        Raises
        ------
        Superseded, AuditLogUnavailable
        """
        with self._database.writing() as session:
            row = self._required(session, taken)
            row.state, row.owner, row.lease = QUEUED, None, None

    @abstractmethod
    def _taken(self, session: Session, row: Row, owner: UUID, lost: bool) -> Taken: ...

    def _required(self, session: Session, taken: Held) -> Row:
        row: Row | Superseded = held_row(session, self.rows, taken.key, taken.owner)
        if isinstance(row, Superseded):
            raise row
        return row

    def _lease(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._settings.job_lease_s)


def add_slowly(database: Database, rows: Iterable[Base]) -> None:
    """Add large rows, each in a transaction of its own.

    SQLite has one writer at a time: whoever waits for an answer gets a turn in between.
    """
    for row in rows:
        begun = time.monotonic()
        with database.writing() as session:
            session.add(row)
        pause(begun)


def pause(begun: float) -> None:
    """Leave the database to others for as long as it was kept since `begun`, in seconds of `time.monotonic`."""
    time.sleep(min(time.monotonic() - begun, _LONGEST_PAUSE_S))
