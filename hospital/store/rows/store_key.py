"""Whether a key is that of a store: where rows were sealed, a lost one is not replaced and another one not used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import inspect, select

from consilium.databases.database import Database
from consilium.domain.errors import InputError
from hospital.store.keys import SETTING, StoreKey, Unsealable, open_key
from hospital.store.rows.tables import (
    AliasRow,
    ClaimRow,
    DeliveryRow,
    MessageRow,
    PriorSearchRow,
    RecordRow,
    RevisionRow,
    StudyRow,
)

SEALED: tuple[tuple[Any, str, tuple[str, ...]], ...] = (
    (RecordRow, "", ("kind", "key", "version")),
    (MessageRow, "message ", ("key",)),
    (AliasRow, "alias ", ("goes",)),
    (StudyRow, "study ", ("study",)),
    (RevisionRow, "revision ", ("revision",)),
    (DeliveryRow, "delivery ", ("key",)),
    (ClaimRow, "claim ", ("claim",)),
    (PriorSearchRow, "prior search ", ("study",)),
)
"""Tables with a sealed `body`, and the place that it is sealed for: a text, and the columns behind it."""


def sealed_rows(database: Database) -> list[tuple[bytes, str]]:
    """A row of each table that has any, with its place; the database is not made or migrated."""
    if database.path is not None and not database.path.exists():
        return []
    found = []
    with database.looking() as session:
        there = inspect(session.connection()).get_table_names()
        for table, kind, columns in SEALED:
            if table.__tablename__ in there:
                wanted = select(table.body, *(getattr(table, column) for column in columns)).limit(1)
                found += [(body, kind + " ".join(place)) for body, *place in session.execute(wanted)]
    return found


def store_key(path: Path, database: Database) -> StoreKey:
    """The key that sealed what `database` holds; a new one where nothing is in it and `path` is not there yet.

    Raises
    ------
    InputError
        As `open_key`; and where rows were sealed by a key that is not there any more, or is another one.
    """
    rows, where = sealed_rows(database), database.url.render_as_string(hide_password=True)
    if rows and not path.exists():
        rule = f"must be the key of {where}, which has rows: nothing there can be read without it; put its copy back"
        raise InputError(SETTING, str(path), rule)
    key = open_key(path)
    if rows and not any(_opens(key, *row) for row in rows):
        rule = f"must be the key that sealed the rows of {where}: it is another one"
        raise InputError(SETTING, str(path), rule)
    return key


def _opens(key: StoreKey, body: bytes, place: str) -> bool:
    try:
        key.unseal(body, place)
    except Unsealable:
        return False
    return True
