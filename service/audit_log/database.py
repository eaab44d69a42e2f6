"""The audit log's database; see `consilium.databases.database`."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL

from consilium.databases import database
from consilium.domain.errors import ConsiliumError

SETTING = "CONSILIUM_AUDIT_LOG_URL"


class AuditLogUnavailable(ConsiliumError):
    """The audit log cannot be reached, or does not take a commit now."""


class AuditLogTooNew(AuditLogUnavailable):
    """The audit log was made by a later version of this project."""


_AUDIT_LOG = database.Purpose(
    name="audit log",
    setting=SETTING,
    migrations=Path(__file__).parent / "migrations",
    lock=0x636F6E73,  # "cons"
    unavailable=AuditLogUnavailable,
    too_new=AuditLogTooNew,
)


def read_url(given: str) -> URL:
    """`consilium.databases.database.read_url` of the audit log's setting."""
    return database.read_url(given, SETTING)


def refuse_unusable(url: URL) -> None:
    """`consilium.databases.database.refuse_unusable` of the audit log's setting."""
    database.refuse_unusable(url, SETTING)


class Database(database.Database):
    """Sessions on the audit log."""

    def __init__(self, url: URL, timeout_s: float = 5.0, statement_s: float | None = None) -> None:
        super().__init__(url, _AUDIT_LOG, timeout_s, statement_s)
