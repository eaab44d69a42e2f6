"""The inbox: records of one message or association in one transaction, none of them twice."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Insert, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from consilium.databases.database import Database
from hospital.store.clock import Clock
from hospital.store.keys import StoreKey
from hospital.store.received import (
    PatientId,
    PatientMerge,
    RawMessage,
    Received,
    ReceivedInstance,
    ReceivedOrder,
    RecordsMoved,
    StoreFull,
)
from hospital.store.rows.aliases import merge
from hospital.store.rows.sealed_records import opened, row_values
from hospital.store.rows.tables import Base, MessageRow, RecordRow
from hospital.store.sealed_files import SealedFiles

_LOG = logging.getLogger("consilium.gateway")


@dataclass(frozen=True, slots=True)
class Watermark:
    """How much room the disk of `folder` must have for anything to be received."""

    folder: Path
    free_bytes: int
    usage: Callable[[Path], Any] = shutil.disk_usage

    @property
    def has_room(self) -> bool:
        return self.usage(self.folder).free >= self.free_bytes


class StoredInbox:
    """The `hospital.store.received.Inbox` of a store.

    It calls `wake` after something new was committed.
    """

    def __init__(
        self,
        database: Database,
        key: StoreKey,
        files: SealedFiles,
        watermark: Watermark,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._key = key
        self._files = files
        self._watermark = watermark
        self._clock = clock
        self._wake = wake

    @property
    def has_room(self) -> bool:
        """Whether `add` would take anything now: ask before an association is accepted."""
        return self._watermark.has_room

    def add(self, *records: Received, raw: RawMessage | None = None) -> bool:
        """See `hospital.store.received.Inbox`. The file of an instance that is passed over is removed."""
        if not self._watermark.has_room:
            self._discard(records)
            raise StoreFull("the disk of the store is beyond its watermark")
        with self._database.writing() as session:
            message = None if raw is None else self._add_message(session, raw)
            known = raw is not None and message is None
            passed_over = list(records) if known else [one for one in records if not self._add(session, one, message)]
        self._discard(passed_over)
        new = not known and (len(passed_over) < len(records) or raw is not None)
        if new:
            self._wake()
        return new

    def read_again(self, message: int, records: Sequence[Received], problem: str | None) -> None:
        """Put in what a message in the store gives now: each record takes the place of its own former reading.

        What was filed under another patient before is noted as moved away from him.

        Raises
        ------
        StoreUnavailable
        """
        with self._database.writing() as session:
            session.execute(update(MessageRow).where(MessageRow.number == message).values(problem=problem))
            for record in records:
                values = row_values(self._key, record, self._clock())
                # Which version of an order it is, its content says, which another reading changes.
                version = "issued" if isinstance(record, ReceivedOrder) else "version"
                same = [getattr(RecordRow, name) == values[name] for name in ("kind", "key", version)]
                self._take_from_others(session, values, record, *same)
                session.execute(delete(RecordRow).where(*same))
                _insert_new(session, RecordRow, values)
                if isinstance(record, PatientMerge):
                    self._merge(session, record, message)
        self._wake()

    def _discard(self, records: Sequence[Received]) -> None:
        """Remove the files of instances that were passed over, unless a row names them: of a call that is repeated."""
        files = [one.file for one in records if isinstance(one, ReceivedInstance) and one.file is not None]
        if not files:
            return
        with self._database.reading() as session:
            named = set(session.scalars(select(RecordRow.file).where(RecordRow.file.in_(files))))
        for file in files:
            if file not in named:
                self._files.remove(file)

    def _add_message(self, session: Session, raw: RawMessage) -> int | None:
        """The row of a message; None where its key is known."""
        key = self._key.digest("message", raw.protocol, raw.key)
        values = {
            "key": key,
            "protocol": raw.protocol,
            "source": raw.source,
            "received": self._clock(),
            "problem": raw.problem,
            "body": self._key.seal(raw.content, f"message {key}"),
        }
        return _insert_new(session, MessageRow, values)

    def _add(self, session: Session, record: Received, message: int | None) -> bool:
        """Whether `record` is new."""
        values = row_values(self._key, record, self._clock())
        asked_for = isinstance(record, ReceivedInstance) and record.requested
        if asked_for and self._is_known(session, record, values):
            return False
        if _insert_new(session, RecordRow, values) is None:
            return False
        if isinstance(record, PatientMerge):
            self._merge(session, record, message)
        if isinstance(record, ReceivedOrder):
            same = (RecordRow.kind == values["kind"], RecordRow.key == values["key"])
            self._take_from_others(session, values, record, *same)
        return True

    def _is_known(self, session: Session, record: Received, values: dict[str, Any]) -> bool:
        """Whether an instance that was asked for had been sent to us before."""
        assert isinstance(record, ReceivedInstance)
        sent = row_values(self._key, replace(record, requested=False), self._clock())["version"]
        same = (RecordRow.kind == values["kind"], RecordRow.key == values["key"], RecordRow.version == sent)
        return session.scalar(select(RecordRow.number).where(*same)) is not None

    def _take_from_others(
        self, session: Session, values: dict[str, Any], record: Received, *same: ColumnElement[bool]
    ) -> None:
        """Have the studies of other patients looked at again, under whom the `same` as `record` was filed."""
        others = select(RecordRow).where(*same, RecordRow.patient != values["patient"])
        formers = {getattr(opened(self._key, row), "patient", None) for row in session.scalars(others)}
        for former in formers:
            self._moved(session, former, record.source)

    def _moved(self, session: Session, patient: PatientId | None, source: str) -> None:
        """Have the studies of `patient` looked at again, from whom something was taken away."""
        if patient is not None:
            now = self._clock()
            _insert_new(session, RecordRow, row_values(self._key, RecordsMoved(patient, source, now), now))

    def _merge(self, session: Session, record: PatientMerge, message: int | None) -> None:
        refused, former = merge(session, self._key, record)
        if refused is None:
            self._moved(session, former, record.source)
            return
        _LOG.warning("a merge of patient identifiers was refused: %s", refused)
        if message is not None:
            session.execute(update(MessageRow).where(MessageRow.number == message).values(problem=refused))


def _insert_new(session: Session, table: type[Base], values: dict[str, Any]) -> int | None:
    """The number of a new row; None where its keys are there already."""
    dialect = session.get_bind().dialect.name
    statement: Insert = (postgresql if dialect == "postgresql" else sqlite).insert(table).values(values)
    added = statement.on_conflict_do_nothing().returning(table.__table__.c.number)  # type: ignore[attr-defined]
    number: int | None = session.scalar(added)
    return number
