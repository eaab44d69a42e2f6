"""The model registry of an embedded store, read and written in its own SQLite tables.

MLflow takes seconds to import; naming a model's versions and moving its aliases takes milliseconds. The tables are
MLflow's (``mlflow/store/model_registry/dbmodels/models.py``), of one revision: whoever meets another one asks MLflow
itself (`consilium.artifacts.registry_client`), which also says how such a store is brought up to date.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from consilium.domain.errors import RegistryUnreachable

REVISION = "dc11669786a5"
"""Alembic's name for the tables that the pinned MLflow makes."""

PREFIX = "consilium-"
"""Of the names of this project's models."""

_WAIT_S = 30.0
"""For another process that is writing."""
_DELETED = "Deleted_Internal"
"""Stage of a version that was deleted: MLflow keeps its row."""
_WORKSPACE = "default"
_VERSIONS = """
    SELECT version, creation_time, run_id
    FROM model_versions WHERE workspace = :workspace AND name = :name AND current_stage <> :deleted
    ORDER BY version DESC
"""
_LOCATION = """
    SELECT COALESCE(storage_location, source)
    FROM model_versions WHERE workspace = :workspace AND name = :name AND version = :version
"""
_MODELS = "SELECT name FROM registered_models WHERE workspace = :workspace AND name GLOB :pattern ORDER BY name"
_MODEL = "SELECT 1 FROM registered_models WHERE workspace = :workspace AND name = :name"
_ALIASES = "SELECT alias, version FROM registered_model_aliases WHERE workspace = :workspace AND name = :name"
_TAGS = "SELECT version, key, value FROM model_version_tags WHERE workspace = :workspace AND name = :name"
_SET_TAG = """
    INSERT INTO model_version_tags (workspace, name, version, key, value)
    VALUES (:workspace, :name, :version, :key, :value)
    ON CONFLICT (workspace, name, version, key) DO UPDATE SET value = excluded.value
"""
_SET_ALIAS = """
    INSERT INTO registered_model_aliases (workspace, name, alias, version)
    VALUES (:workspace, :name, :alias, :version)
    ON CONFLICT (workspace, name, alias) DO UPDATE SET version = excluded.version
"""
_DELETE_ALIAS = "DELETE FROM registered_model_aliases WHERE workspace = :workspace AND name = :name AND alias = :alias"
_EXPERIMENTS = "SELECT name, artifact_location FROM experiments WHERE lifecycle_stage = 'active'"


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One version of a registered model, as the registry holds it.

    Attributes
    ----------
    created_ms : int
        Milliseconds since 1970, UTC.
    """

    name: str
    version: str
    created_ms: int
    run_id: str
    tags: dict[str, str]


@dataclass(frozen=True, slots=True)
class RegistryTables:
    """The registry in the SQLite file `database`.

    Every method raises `RegistryUnreachable` where the file cannot be read or written.
    """

    database: Path

    def known(self) -> bool:
        """Whether the tables are those that this module knows."""
        try:
            with self._connected() as connection:
                return connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(REVISION,)]
        except RegistryUnreachable:
            return False

    def experiments(self) -> list[tuple[str, str]]:
        """Name and artifact location of every experiment."""
        with self._connected() as connection:
            return [(str(name), str(place)) for name, place in connection.execute(_EXPERIMENTS)]

    def models(self) -> list[str]:
        """Names of all registered models of this project."""
        ours = {"workspace": _WORKSPACE, "pattern": f"{PREFIX}*"}
        with self._connected() as connection:
            return [str(name) for (name,) in connection.execute(_MODELS, ours)]

    def aliases(self, name: str) -> dict[str, str] | None:
        """Version of each alias of the model `name`; None where there is no such model."""
        of = {"workspace": _WORKSPACE, "name": name}
        with self._connected() as connection:
            if connection.execute(_MODEL, of).fetchone() is None:
                return None
            return {str(alias): str(version) for alias, version in connection.execute(_ALIASES, of)}

    def versions(self, name: str) -> list[StoredVersion]:
        """Every version of the model `name`, newest first."""
        of = {"workspace": _WORKSPACE, "name": name}
        with self._connected() as connection:
            tags: dict[int, dict[str, str]] = {}
            for version, key, value in connection.execute(_TAGS, of):
                tags.setdefault(version, {})[key] = value or ""
            return [
                StoredVersion(name, str(version), created, run_id or "", tags.get(version, {}))
                for version, created, run_id in connection.execute(_VERSIONS, of | {"deleted": _DELETED})
            ]

    def version(self, name: str, version: str) -> StoredVersion | None:
        """One of them; None where there is none of this number."""
        return next((one for one in self.versions(name) if one.version == version), None)

    def location(self, name: str, version: str) -> str:
        """URI or path of what was registered as `version`, which must be there."""
        of = {"workspace": _WORKSPACE, "name": name, "version": int(version)}
        with self._connected() as connection:
            return str(connection.execute(_LOCATION, of).fetchone()[0])

    def set_tag(self, name: str, version: str, key: str, value: str) -> None:
        """Tag a version, which must be there."""
        self._write(_SET_TAG, name=name, version=int(version), key=key, value=value)

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Let the alias stand for `version`, which must be there."""
        self._write(_SET_ALIAS, name=name, alias=alias, version=int(version))

    def delete_alias(self, name: str, alias: str) -> None:
        """Take the alias away."""
        self._write(_DELETE_ALIAS, name=name, alias=alias)

    def _write(self, statement: str, **values: str | int) -> None:
        with self._connected(write=True) as connection, connection:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(statement, {"workspace": _WORKSPACE, **values})

    @contextmanager
    def _connected(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        # A store that may only be read can be: SQLite would otherwise want to write beside it.
        place = f"file:{quote(str(self.database))}?mode={'rw' if write else 'ro'}"
        try:
            with closing(sqlite3.connect(place, uri=True, timeout=_WAIT_S)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise RegistryUnreachable(f"model store: {error} ({self.database})") from error
