"""The audit log's database: an SQLite file, or PostgreSQL by its URL; opened and migrated on first use.

A commit that returns has reached the disk: SQLite runs with WAL and ``synchronous=FULL``, PostgreSQL with synchronous
commits. A database that cannot do its work ends in `AuditLogUnavailable`, without the values that it was about.
"""

from __future__ import annotations

import math
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from filelock import FileLock
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from consilium.domain.errors import ConsiliumError, InputError, os_cause

SETTING = "CONSILIUM_AUDIT_LOG_URL"
_MIGRATIONS = Path(__file__).parent / "migrations"
_SQLITE_HEADER = b"SQLite format 3\0"
"""Of every database that is not empty. Source: sqlite.org, Database File Format, 1.3."""
_MIGRATION_LOCK = 0x636F6E73
"""Of PostgreSQL's advisory locks the one that migration takes: "cons"."""


class AuditLogUnavailable(ConsiliumError):
    """The audit log cannot be reached, or does not take a commit now."""


class AuditLogTooNew(AuditLogUnavailable):
    """The audit log was made by a later version of this project."""


def read_url(given: str) -> URL:
    """The URL of an audit log.

    Raises
    ------
    InputError
        For anything but an SQLite file or a PostgreSQL server; a password in it is not shown.
    """
    rule = "must read sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
    try:
        url = make_url(given)
    except ArgumentError:
        raise InputError(SETTING, "no URL", rule) from None
    if url.drivername == "sqlite" and url.database not in (None, "", ":memory:"):
        return url
    if url.drivername in ("postgresql", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    raise InputError(SETTING, url.render_as_string(hide_password=True), rule)


def refuse_unusable(url: URL) -> None:
    """Raise `InputError` where no SQLite audit log can be at `url`, however long it is waited for; nothing is made.

    A file that is locked now, or a server that does not answer, is none of this.
    """
    if url.get_backend_name() != "sqlite":
        return
    path = Path(url.database or "")
    rule = _broken_rule(path)
    if rule is not None:
        raise InputError(SETTING, url.render_as_string(hide_password=True), rule)


def _broken_rule(path: Path) -> str | None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "must name a file"
        with path.open("rb") as file:
            header = file.read(len(_SQLITE_HEADER))
    except FileNotFoundError:
        folder = next(parent for parent in path.absolute().parents if parent.exists())
    except OSError as error:
        return f"must name a file that can be read ({error.strerror})"
    else:
        if header not in (b"", _SQLITE_HEADER):
            return "must name an SQLite database, or a file that does not exist yet"
        folder = path.absolute().parent
        if not os.access(path, os.W_OK):
            return "must name a file that can be written"
    # SQLite writes other files beside its own.
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return f"must lie in a folder that can be written, which {str(folder)!r} is not"
    return None


class Database:
    """Sessions on the audit log. Several threads may use them, and several processes the same database.

    Parameters
    ----------
    timeout_s : float
        How long a connection or a lock may take.
    statement_s : float, optional
        How long PostgreSQL may work on one statement; `timeout_s` unless given.
    """

    def __init__(self, url: URL, timeout_s: float = 5.0, statement_s: float | None = None) -> None:
        self.url = url
        self._opened = False
        self._inode: tuple[int, int] | None = None
        self._opening = threading.Lock()
        self._engine = _sqlite(url, timeout_s) if self.path else _postgresql(url, timeout_s, statement_s or timeout_s)
        self._writer = self._engine.execution_options(writes=True)

    @property
    def path(self) -> Path | None:
        """The file of an SQLite audit log."""
        is_sqlite = self.url.get_backend_name() == "sqlite"
        return Path(self.url.database or "") if is_sqlite else None

    @property
    def opened(self) -> bool:
        """Whether it was reached, and is migrated."""
        return self._opened

    def open(self) -> None:
        """Migrate the database where that is due; under a lock, so that of several processes one does it.

        Raises
        ------
        AuditLogUnavailable
            `AuditLogTooNew` among them.
        """
        with self._opening, _unavailable():
            if self._opened and self._inode != self._identity():
                # Somebody moved the file away or put another in its place: what is committed must not go there.
                self._engine.dispose()
                self._opened = False
            if not self._opened:
                with self._alone():
                    _migrate(self._writer, self.url)
                self._inode = self._identity()
                self._opened = True

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that only reads."""
        self.open()
        with _unavailable(), Session(self._engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session whose changes are on the disk when the block has ended, or not made at all where it raised."""
        self.open()
        with _unavailable(), Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def shrink(self) -> None:
        """Take what was deleted out of SQLite's write-ahead log, too, where no reader needs it now."""
        if self.path is not None:
            with _unavailable(), closing(self._engine.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _identity(self) -> tuple[int, int] | None:
        if self.path is None:
            return None
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Only one process at a time makes an SQLite file: SQLite does not wait while its journal mode is changed."""
        if self.path is None:
            yield
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock", mode=0o600):
            # SQLite gives its other files the mode of this one.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            with closing(self._engine.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA journal_mode = WAL")
            yield


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except (IntegrityError, DataError):
        raise  # The database is there; it is the row that is wrong.
    except DBAPIError as error:
        reason = str(error.orig).strip().partition("\n")[0]
        raise AuditLogUnavailable(f"audit log: {type(error.orig).__name__}: {reason}") from None
    except sqlite3.Error as error:  # of a connection that SQLAlchemy is only making
        raise AuditLogUnavailable(f"audit log: {type(error).__name__}: {error}") from None
    except OSError as error:
        raise AuditLogUnavailable(f"audit log: {os_cause(error)}") from None
    except SQLAlchemyError as error:
        raise AuditLogUnavailable(f"audit log: {type(error).__name__}") from None


def _sqlite(url: URL, timeout_s: float) -> Engine:
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": timeout_s})

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None  # The driver begins no transactions of its own.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and writes then would fail at once, not wait, where another one wrote between.
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql(url: URL, timeout_s: float, statement_s: float) -> Engine:
    milliseconds = math.ceil(timeout_s * 1000)
    limits = {
        "statement_timeout": math.ceil(statement_s * 1000),
        "lock_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,
    }
    # Without these a server that vanished from the network would be waited for as long as TCP does.
    network = {"connect_timeout": max(2, math.ceil(timeout_s)), "tcp_user_timeout": milliseconds}
    engine = create_engine(url, hide_parameters=True, pool_pre_ping=True, connect_args=network)

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        with connection.cursor() as cursor:
            for name, limit in limits.items():
                cursor.execute(f"SET {name} = {limit}")
            cursor.execute(
                "SELECT set_config('synchronous_commit', 'on', false) "
                "WHERE current_setting('synchronous_commit') = 'off'"
            )
        connection.commit()

    return engine


def _migrate(engine: Engine, url: URL) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    wanted = set(ScriptDirectory.from_config(config).get_heads())
    with engine.begin() as connection:
        if set(MigrationContext.configure(connection).get_current_heads()) == wanted:
            return
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError:
            shown = url.render_as_string(hide_password=True)
            raise AuditLogTooNew(
                f"{SETTING}: got {shown!r}, must be an audit log of this version or an earlier one"
            ) from None
