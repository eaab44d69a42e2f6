"""Stores to test on: SQLite, and a database of a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consilium.databases.database import read_url
from hospital.store.gateway_store import Store, StoreLocation
from tests.hospital.clock import SetClock
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


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> StoreLocation:
    url = f"sqlite:///{tmp_path / 'store' / 'gateway.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("cluster").new_database()
    return StoreLocation(read_url(url, "store.url"), tmp_path / "store", tmp_path / "store.key", free_bytes=1)


@pytest.fixture
def store(location: StoreLocation, clock: SetClock) -> Iterator[Store]:
    opened = Store(location, clock)
    opened.take()
    yield opened
    opened.close()
