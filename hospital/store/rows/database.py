"""The store's database; see `consilium.databases.database`."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL

from consilium.databases import database
from hospital.store.received import StoreUnavailable

SETTING = "store.url"


class StoreTooNew(StoreUnavailable):
    """The store was made by a later version of this project."""


_STORE = database.Purpose(
    name="gateway's store",
    setting=SETTING,
    migrations=Path(__file__).parent / "migrations",
    lock=0x67617465,  # "gate"
    unavailable=StoreUnavailable,
    too_new=StoreTooNew,
)


def store_database(url: URL, timeout_s: float = 10.0) -> database.Database:
    """Sessions on the store."""
    return database.Database(url, _STORE, timeout_s)
