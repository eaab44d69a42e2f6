"""A database of the project: an SQLite file, or PostgreSQL by its URL; opened and migrated on first use.

A commit that returns has reached the disk: SQLite runs with WAL and ``synchronous=FULL``, PostgreSQL with synchronous
commits. A database that cannot do its work ends in `Purpose.unavailable`, without the values that it was about.
"""

from __future__ import annotations

import math
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a database is for.

    Attributes
    ----------
    name : str
        In messages: ``audit log``.
    setting : str
        Which setting gives its URL.
    migrations : Path
        Folder of Alembic's scripts.
    lock : int
        Of PostgreSQL's advisory locks the one that migration takes.
    unavailable, too_new : type of ConsiliumError
        Raised where it cannot be reached or takes no commit now, and where a later version of the project made it.
    """

    name: str
    setting: str
    migrations: Path
    lock: int
    unavailable: type[ConsiliumError]
    too_new: type[ConsiliumError]


def read_url(given: str, setting: str) -> URL:
    """The URL of a database, which `setting` gives.

    Raises
    ------
    InputError
        For anything but an SQLite file or a PostgreSQL server, and for the latter where its driver is not installed; a
        password in it is not shown.
    """
    rule = "must read sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
    try:
        url = make_url(given)
    except ArgumentError:
        raise InputError(setting, "no URL", rule) from None
    if url.drivername == "sqlite" and url.database not in (None, "", ":memory:"):
        return url
    if url.drivername in ("postgresql", "postgresql+psycopg"):
        _require_driver(url, setting)
        return url.set(drivername="postgresql+psycopg")
    raise InputError(setting, url.render_as_string(hide_password=True), rule)


def _require_driver(url: URL, setting: str) -> None:
    try:
        import psycopg  # noqa: F401  # fails, too, where its libpq is missing
    except ImportError:
        rule = "needs PostgreSQL's driver, which is not installed: pip install 'consilium[postgresql]' (LGPL-3.0)"
        raise InputError(setting, url.render_as_string(hide_password=True), rule) from None


def refuse_unusable(url: URL, setting: str) -> None:
    """Raise `InputError` where no SQLite database can be at `url`, however long it is waited for; nothing is made.

    A file that is locked now, or a server that does not answer, is none of this.
    """
    if url.get_backend_name() != "sqlite":
        return
    path = Path(url.database or "")
    rule = _broken_rule(path)
    if rule is not None:
        raise InputError(setting, url.render_as_string(hide_password=True), rule)


def _broken_rule(path: Path) -> str | None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "must name a file"
    except FileNotFoundError:
        folder = next(parent for parent in path.absolute().parents if parent.exists())
    except OSError as error:
        return f"must name a file that can be read ({error.strerror})"
    else:
        if (rule := _sqlite_rule(path)) is not None:
            return rule
        folder = path.absolute().parent
        if not os.access(path, os.W_OK):
            return "must name a file that can be written"
    # SQLite writes other files beside its own.
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return f"must lie in a folder that can be written, which {str(folder)!r} is not"
    return None


def _sqlite_rule(path: Path) -> str | None:
    """What a file breaks that is no SQLite database; None of an empty one, too.

    SQLite itself looks: where anything else in this process closes the file, the locks of its connections are dropped.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            return "must name an SQLite database, or a file that does not exist yet"
        if error.sqlite_errorcode == sqlite3.SQLITE_CANTOPEN:
            return "must name a file that can be read"
    return None


class Database:
    """Sessions on one database. Several threads may use them, and several processes the same database.

    Parameters
    ----------
    timeout_s : float
        How long a connection or a lock may take.
    statement_s : float, optional
        How long PostgreSQL may work on one statement; `timeout_s` unless given.
    """

    def __init__(self, url: URL, purpose: Purpose, timeout_s: float = 5.0, statement_s: float | None = None) -> None:
        self.url = url
        self.purpose = purpose
        self._opened = False
        self._inode: tuple[int, int] | None = None
        self._opening = threading.Lock()
        self._engine = _sqlite(url, timeout_s) if self.path else _postgresql(url, timeout_s, statement_s or timeout_s)
        self._writer = self._engine.execution_options(writes=True)

    @property
    def path(self) -> Path | None:
        """The file of an SQLite database."""
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
        ConsiliumError
            `Purpose.unavailable` or `Purpose.too_new`.
        """
        with self._opening, self._unavailable():
            if self._opened and self._inode != self._identity():
                # Somebody moved the file away or put another in its place: what is committed must not go there.
                self._engine.dispose()
                self._opened = False
            if not self._opened:
                with self._alone():
                    _migrate(self._writer, self.url, self.purpose)
                self._inode = self._identity()
                self._opened = True

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that only reads."""
        self.open()
        with self._unavailable(), Session(self._engine) as session:
            yield session

    @contextmanager
    def looking(self) -> Iterator[Session]:
        """A session that only reads the database as it is: nothing is migrated, and a table may not be there."""
        with self._unavailable(), Session(self._engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session whose changes are on the disk when the block has ended, or not made at all where it raised."""
        self.open()
        with self._unavailable(), Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """As `writing`, without a session's unit of work, which takes as long as a row's insertion itself."""
        self.open()
        with self._unavailable(), self._writer.begin() as connection:
            yield connection

    def shrink(self) -> None:
        """Take what was deleted out of SQLite's write-ahead log, too, where no reader needs it now."""
        if self.path is not None:
            with self._unavailable(), closing(self._engine.raw_connection()) as connection:
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
            # SQLite gives its other files the mode of this one. One that is there is not opened: closing it would drop
            # the locks of this process's connections, and another process would delete the log that they write to.
            if not self.path.exists():
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            with closing(self._engine.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA journal_mode = WAL")
            yield

    @contextmanager
    def _unavailable(self) -> Iterator[None]:
        try:
            yield
        except (IntegrityError, DataError):
            raise  # The database is there; it is the row that is wrong.
        except DBAPIError as error:
            raise self._error(f"{type(error.orig).__name__}: {str(error.orig).strip().partition(chr(10))[0]}") from None
        except sqlite3.Error as error:  # of a connection that SQLAlchemy is only making
            raise self._error(f"{type(error).__name__}: {error}") from None
        except OSError as error:
            raise self._error(os_cause(error)) from None
        except SQLAlchemyError as error:
            raise self._error(type(error).__name__) from None

    def _error(self, reason: str) -> ConsiliumError:
        return self.purpose.unavailable(f"{self.purpose.name}: {reason}")


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


_MIGRATING = threading.Lock()
"""Alembic has one context for a whole process: two migrations at once would write to each other's database."""


def _migrate(engine: Engine, url: URL, purpose: Purpose) -> None:
    config = Config()
    config.set_main_option("script_location", str(purpose.migrations).replace("%", "%%"))
    wanted = set(ScriptDirectory.from_config(config).get_heads())
    with _MIGRATING, engine.begin() as connection:
        if set(MigrationContext.configure(connection).get_current_heads()) == wanted:
            return
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": purpose.lock})
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError:
            shown = url.render_as_string(hide_password=True)
            rule = f"must be {_with_article(purpose.name)} of this version or an earlier one"
            raise purpose.too_new(f"{purpose.setting}: got {shown!r}, {rule}") from None


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
