"""The store of a gateway, opened: its inbox, records, studies and outbox over one database and one folder of files."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import URL, select

from consilium.databases.database import Database, refuse_unusable
from consilium.domain.errors import ConsiliumError
from hospital.store.claims import Claims
from hospital.store.clock import Clock, system_clock
from hospital.store.holds import Holds
from hospital.store.inbox import StoredInbox, Watermark
from hospital.store.outbox import Outbox
from hospital.store.prior_searches import PriorSearches
from hospital.store.records import Records
from hospital.store.rows.aliases import Patients
from hospital.store.rows.database import SETTING, store_database
from hospital.store.rows.positions import Positions
from hospital.store.rows.store_key import sealed_rows, store_key
from hospital.store.rows.tables import RecordRow
from hospital.store.sealed_files import SealedFiles
from hospital.store.study_states import StudyStates

_SETTLED_S = 3600.0
"""A file that no row names is left for as long while the gateway runs: its row may be on the way."""


class StoreTaken(ConsiliumError):
    """Another gateway runs on this store."""


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """Where a store lies.

    Attributes
    ----------
    url : URL
        Of the database; see `consilium.databases.database.read_url`.
    folder : Path
        Of the sealed files and of the lock.
    key_file : Path
        Made at the first start, while the database holds nothing.
    free_bytes : int
        How much room the disk must have for anything to be received.
    """

    url: URL
    folder: Path
    key_file: Path
    free_bytes: int = 1 << 30


def refuse_other_key(location: StoreLocation) -> None:
    """Raise `InputError` where the key of `location` did not seal what its database holds; nothing is made."""
    refuse_unusable(location.url, SETTING)
    database = store_database(location.url)
    try:
        if location.key_file.exists() or sealed_rows(database):
            store_key(location.key_file, database)
    finally:
        database.close()


class Store:
    """Everything that the gateway holds. Several threads may use it.

    Attributes
    ----------
    inbox, records, studies, outbox, claims, priors, patients, files, holds, positions
        See their classes.
    arrived, to_send : threading.Event
        Set after something was received, and after something was put into the outbox; whoever waits clears them.
    """

    def __init__(self, location: StoreLocation, clock: Clock = system_clock) -> None:
        refuse_unusable(location.url, SETTING)
        location.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.location = location
        self.clock = clock
        self.database: Database = store_database(location.url)
        self.key = store_key(location.key_file, self.database)
        self.files = SealedFiles(location.folder / "files", self.key)
        self.arrived, self.to_send = threading.Event(), threading.Event()
        watermark = Watermark(location.folder, location.free_bytes)
        self.inbox = StoredInbox(self.database, self.key, self.files, watermark, clock, self.arrived.set)
        self.records = Records(self.database, self.key)
        self.outbox = Outbox(self.database, self.key, clock, self.to_send.set)
        self.studies = StudyStates(self.database, self.key, self.outbox, clock)
        self.claims = Claims(self.database, self.key, clock)
        self.priors = PriorSearches(self.database, self.key, clock)
        self.patients = Patients(self.database, self.key)
        self.positions = Positions(self.database)
        self.holds = Holds()
        self._lock = FileLock(location.folder / "gateway.lock", mode=0o600, thread_local=False)

    def take(self) -> None:
        """Make this process the one gateway on the store, and put in order what an earlier one left half done.

        Raises
        ------
        StoreTaken, StoreUnavailable
        """
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise StoreTaken(f"{self.location.folder}: another gateway runs on this store") from None
        self.database.open()
        self.files.discard_incoming()
        self.remove_unnamed(0.0)

    def close(self) -> None:
        """Give the store back."""
        self.database.close()
        self._lock.release()

    def remove_unnamed(self, older_than_s: float = _SETTLED_S) -> int:
        """Delete whole files that no row names: received by a process that ended before it could acknowledge them."""
        before = self.clock().timestamp() - older_than_s
        old = [name for name in self.files.names() if self.files.written(name) <= before or older_than_s == 0]
        removed = 0
        for start in range(0, len(old), 500):
            some = old[start : start + 500]
            with self.database.reading() as session:
                named = set(session.scalars(select(RecordRow.file).where(RecordRow.file.in_(some))))
            for name in set(some) - named:
                self.files.remove(name)
                removed += 1
        return removed
