"""How long the audit log keeps what it holds, and how it is copied: purge, backup, restore."""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import delete, func, select

from consilium.domain.errors import ConsiliumError, InputError
from consilium.system.durable import sync
from service.audit_log import idempotency as claims
from service.audit_log.database import SETTING, Database
from service.audit_log.tables import DeploymentEventRow, FeedbackRow, ResultRow, SignInRow

_DELETED_AT_ONCE = 500
_UNITS = {"d": "days", "h": "hours", "w": "weeks"}


class BrokenBackup(ConsiliumError):
    """A file that is no whole audit log, and why."""

    def __init__(self, source: Path, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Purged:
    """How much was deleted; `replays`: answers kept for idempotency keys whose time was over."""

    results: int
    feedback: int
    replays: int


def read_age(field: str, given: str) -> timedelta:
    """``365d``, ``12h`` or ``8w``.

    Raises
    ------
    InputError
    """
    found = re.fullmatch(r"(\d{1,6})([dhw])", given)
    if found is None or int(found[1]) == 0:
        raise InputError(field, given, "must read like 365d, 8w or 12h")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def purge(database: Database, older_than: timedelta) -> Purged:
    """Delete answers older than that, with their feedback and what was kept of them for replay; sign-ins likewise.

    SQLite overwrites what it deletes.
    """
    try:
        before = datetime.now(UTC) - older_than
    except OverflowError:
        before = datetime.min.replace(tzinfo=UTC)
    old = select(ResultRow.result_id).where(ResultRow.time < before).limit(_DELETED_AT_ONCE)
    results = feedback = 0
    while True:
        # A little at a time: the service waits for this lock, too.
        with database.writing() as session:
            ids = session.scalars(old).all()
            confirmed = select(func.count()).where(FeedbackRow.result_id.in_(ids))
            feedback += session.scalar(confirmed) or 0
            session.execute(delete(ResultRow).where(ResultRow.result_id.in_(ids)))
        results += len(ids)
        if len(ids) < _DELETED_AT_ONCE:
            break
    replays = claims.expire(database)
    with database.writing() as session:
        session.execute(delete(SignInRow).where(SignInRow.time < before))
        session.execute(delete(DeploymentEventRow).where(DeploymentEventRow.time < before))
    database.shrink()
    return Purged(results, feedback, replays)


def backup(database: Database, target: Path) -> None:
    """Write a whole, consistent copy to `target` while the service goes on.

    Raises
    ------
    InputError
        For a PostgreSQL audit log, which `pg_dump` backs up, or where `target` exists or cannot be written.
    """
    source = _file(database, "pg_dump")
    if not source.exists():
        raise InputError(SETTING, str(source), "must be an audit log: there is none yet")
    with _written(target, "file"):
        _copy(source, target)


def restore(database: Database, source: Path) -> None:
    """Make the audit log from a backup. There must be none: what was recorded since would be lost.

    Raises
    ------
    InputError, BrokenBackup
    """
    target = _file(database, "pg_restore")
    if not source.is_file():
        raise InputError("FILE", str(source), "must be a backup of the audit log")
    log = target.with_name(f"{target.name}-wal")
    if log.exists() and not target.exists():
        # SQLite would take it for the log of the restored file.
        raise InputError(SETTING, str(log), "must be moved away together with the audit log that it belongs to")
    with _written(target, SETTING):
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(source, target)


def _file(database: Database, instead: str) -> Path:
    if database.path is None:
        raise InputError(SETTING, "postgresql", f"must be an SQLite audit log: PostgreSQL has {instead}")
    return database.path


@contextmanager
def _written(target: Path, field: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        taken = isinstance(error, FileExistsError) and target.exists()
        unwritable = f"must be a file that can be written ({error.strerror})"
        rule = "must not exist yet: move it away first" if taken else unwritable
        raise InputError(field, str(target), rule) from None


def _copy(source: Path, target: Path) -> None:
    """SQLite's online backup into a file that appears whole or not at all."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    os.close(descriptor)
    try:
        read_only = f"{source.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(read_only, uri=True)) as original, closing(sqlite3.connect(name)) as copy:
            original.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
            _check(copy, source)
        # Unlike a rename this does not take the place of a file that is there.
        os.link(name, target)
        sync(target.parent)
    except sqlite3.Error as error:
        raise BrokenBackup(source, str(error)) from None
    finally:
        Path(name).unlink(missing_ok=True)


def _check(copy: sqlite3.Connection, source: Path) -> None:
    (verdict,) = copy.execute("PRAGMA integrity_check").fetchone()
    tables = {name for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if verdict != "ok" or not {"alembic_version", ResultRow.__tablename__} <= tables:
        raise BrokenBackup(source, f"got {verdict if verdict != 'ok' else 'other tables'}, must be a whole audit log")
