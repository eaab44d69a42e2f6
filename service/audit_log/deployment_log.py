"""Which models were loaded and refused, and when: one row for each, of every process that shares the audit log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias
from uuid import uuid4

from sqlalchemy import select

from consilium.api.schemas import DeploymentEvent
from consilium.domain.diagnosis import ModelIdentity
from service.audit_log.database import Database
from service.audit_log.tables import DeploymentEventRow

LOADED, REMOVED, REFUSED = "loaded", "removed", "refused"


@dataclass(frozen=True, slots=True)
class ModelEvent:
    """A model was loaded in a role, let go of without another in its place, or refused.

    Attributes
    ----------
    reason, detail : str
        Why it was refused; empty otherwise.
    """

    role: str
    event: str
    model: ModelIdentity
    reason: str = ""
    detail: str = ""
    time: datetime = field(default_factory=lambda: datetime.now(UTC))


NoteEvent: TypeAlias = Callable[[ModelEvent], None]
"""Takes an event to be recorded; called on any thread, returns at once."""


def keep_event(database: Database, event: ModelEvent) -> None:
    """Record `event`.

    Raises
    ------
    AuditLogUnavailable
    """
    row = DeploymentEventRow(
        event_id=uuid4(),
        time=event.time,
        role=event.role,
        event=event.event,
        model_name=event.model.name,
        model_version=event.model.version,
        manifest_digest=event.model.manifest_digest,
        reason=event.reason,
        detail=event.detail,
    )
    with database.writing() as session:
        session.add(row)


def latest_events(database: Database, limit: int) -> list[DeploymentEvent]:
    """The latest events, latest first."""
    wanted = select(DeploymentEventRow).order_by(DeploymentEventRow.time.desc(), DeploymentEventRow.event_id)
    with database.reading() as session:
        return [
            DeploymentEvent.model_validate(
                {
                    "time": row.time,
                    "role": row.role,
                    "event": row.event,
                    "model": {
                        "name": row.model_name,
                        "version": row.model_version,
                        "manifest_digest": row.manifest_digest,
                    },
                    "reason": row.reason or None,
                    "detail": row.detail or None,
                }
            )
            for row in session.scalars(wanted.limit(limit))
        ]
