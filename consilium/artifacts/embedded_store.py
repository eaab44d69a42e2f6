"""The embedded MLflow store: an SQLite file and the artifacts beside it, made by one process and moved by a command.

MLflow takes places as URLs, so a path with ``?`` or ``%`` is quoted.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote, unquote

_SQLITE = "sqlite:///"
_ARTIFACTS = "artifacts"
_UNFINISHED = ".unfinished-"
_FILE = "file://"
_QUOTED = frozenset("?%")
_LOCATIONS = {
    "experiments": ["artifact_location"],
    "runs": ["artifact_uri"],
    "logged_models": ["artifact_location"],
    "model_versions": ["source", "storage_location"],
}
"""Columns of MLflow's tables that hold absolute places."""


def sqlite_url(database: Path) -> str:
    """URL of the SQLite file `database`."""
    return _SQLITE + str(database).replace("%", "%25").replace("?", "%3F")


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite URL; None for a server or another database."""
    if not url.startswith(_SQLITE):
        return None
    return Path(unquote(url.removeprefix(_SQLITE).partition("?")[0])).absolute()


def is_there(database: Path) -> bool:
    """Whether the store was made; a file without content is what SQLite leaves of a store that was only asked for."""
    return database.exists() and database.stat().st_size > 0


def make(database: Path) -> None:
    """Make the store at `database`; where another process is making it, wait for that.

    It appears whole or not at all: a process that is killed leaves nothing that a later one would take for a store.

    Raises
    ------
    OSError, sqlalchemy.exc.SQLAlchemyError, mlflow.exceptions.MlflowException
        It cannot be written.
    """
    from filelock import FileLock
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    folder = database.parent
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{database.name}.lock"):
        if is_there(database):
            return
        for left in folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(dir=folder, prefix=_UNFINISHED) as name:
            unfinished = Path(name) / database.name
            SqlAlchemyStore(sqlite_url(unfinished), str(folder / _ARTIFACTS)).engine.dispose()
            remove_stray_folders(unfinished)
            unfinished.replace(database)


def remove_stray_folders(database: Path) -> None:
    """Remove the folders that MLflow makes for the quoted form of a path, which are nobody's."""
    quoted = Path(sqlite_url(database).removeprefix(_SQLITE))
    if quoted != database:
        with suppress(OSError):
            os.removedirs(quoted.parent)


def artifact_location(database: Path, experiment: str) -> str:
    """Where the artifacts of `experiment` lie beside `database`, as MLflow takes it."""
    return _location(database.parent / _ARTIFACTS / experiment)


def made_at(experiments: Iterable[tuple[str, str]]) -> Path | None:
    """The folder in which a store was made, by the names and artifact locations of its experiments."""
    for name, location in experiments:
        place = Path(unquote(location.removeprefix(_FILE)) if location.startswith(_FILE) else location)
        if place.name == name and place.parent.name == _ARTIFACTS:
            return place.parents[1]
    return None


def relocate(database: Path) -> tuple[Path, int]:
    """Let a store that was moved, or copied, to `database` find its artifacts there.

    Returns
    -------
    Path
        The folder that it was made in, or moved to last.
    int
        How many places were rewritten.

    Raises
    ------
    sqlite3.Error
    """
    with closing(sqlite3.connect(database)) as connection, connection:
        old = made_at(connection.execute("SELECT name, artifact_location FROM experiments")) or database.parent
        new = _location(database.parent)
        if old == database.parent:
            return old, 0
        rewritten = 0
        forms = {
            _FILE + quote(str(old)): database.parent.as_uri(),
            f"{_FILE}{old}": database.parent.as_uri(),
            str(old): new,
        }
        for table, columns in _LOCATIONS.items():
            for column in columns:
                for before, after in forms.items():
                    done = connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608 - names of ours
                        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (after, len(before) + 1, before, len(before) + 1, f"{before}/"),
                    )
                    rewritten += done.rowcount
    return old, rewritten


def _location(folder: Path) -> str:
    return folder.as_uri() if _QUOTED & set(str(folder)) else str(folder)
