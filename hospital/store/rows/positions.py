"""How far something outside was read, such as a FHIR server that is polled; it survives a restart."""

from __future__ import annotations

from consilium.databases.database import Database
from hospital.store.rows.tables import PositionRow


class Positions:
    """A text by a name. Names and texts are not sealed: nothing of a patient belongs into them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> str | None:
        with self._database.reading() as session:
            row = session.get(PositionRow, name)
            return None if row is None else row.value

    def set(self, name: str, value: str) -> None:
        with self._database.writing() as session:
            session.merge(PositionRow(name=name, value=value))
