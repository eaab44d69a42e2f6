"""Records to test on: an SQLite file, and a database of a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.audit_log.database import Database, read_url
from service.audit_log.pseudonyms import AuditLogKeys, make_keys, read_keys
from service.audit_log.store import Store
from tests.postgres import Cluster, find_programs


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not here: the Debian package postgresql has it")
    cluster = Cluster(programs)
    try:
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty record."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'audit-log.db'}"
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.new_database()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "audit-log.keys"
    make_keys(path)
    return path


@pytest.fixture
def keys(key_file: Path) -> AuditLogKeys:
    return read_keys(key_file)


@pytest.fixture
def store(url: str, keys: AuditLogKeys) -> Iterator[Store]:
    database = Database(read_url(url))
    yield Store(database, keys)
    database.close()
