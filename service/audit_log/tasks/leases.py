"""Who may answer a row that is held by a lease: the process that took it last, as long as it has not ended."""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from consilium.domain.errors import ConsiliumError
from service.audit_log.tables import LeasedRow

QUEUED, RUNNING = "queued", "running"

Row = TypeVar("Row", bound=LeasedRow)


class Superseded(ConsiliumError):
    """It was cancelled, deleted or has expired, or another process holds it; what this one found out is nobody's."""


def held_row(session: Session, rows: type[Row], key: UUID, owner: UUID) -> Row | Superseded:
    """The row, locked; `Superseded` where `owner` does not hold it any more."""
    row = session.get(rows, key, with_for_update=True)
    if row is None or row.state != RUNNING or row.owner != owner:
        return Superseded(f"{rows.KIND} {key} is not held any more")
    return row
