"""How the audit log lies in a database: answers, what was confirmed of them, claims of idempotency keys, and jobs.

`migrations` makes these tables; the tests compare the two.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    String,
    TypeDecorator,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

STATES = ("present", "absent", "unknown")
JOB_KINDS = ("diagnose", "explain")
JOB_STATES = ("receiving", "queued", "running", "done", "failed", "cancelled")
_DIGEST = String(64)
Json = JSON().with_variant(JSONB(), "postgresql")


class UtcTime(TypeDecorator[datetime]):
    """A moment in UTC. SQLite keeps no time zone, so it gets UTC without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Names every constraint, so that a later migration can name it, too."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcTime(), dict[str, Any]: Json, list[Any]: Json}  # noqa: RUF012 - SQLAlchemy's


class ResultRow(Base):
    """One answer. `patient`, `study` and `reference` are pseudonyms by the key `key_id`."""

    __tablename__ = "results"
    __table_args__ = (Index(None, "model_name", "model_version"),)

    result_id: Mapped[UUID] = mapped_column(primary_key=True)
    time: Mapped[datetime] = mapped_column(index=True)
    endpoint: Mapped[str]
    role: Mapped[str]
    request_id: Mapped[str]
    caller: Mapped[str]
    model_name: Mapped[str]
    model_version: Mapped[str]
    manifest_digest: Mapped[str]
    key_id: Mapped[str]
    patient: Mapped[str | None] = mapped_column(_DIGEST, index=True)
    study: Mapped[str | None] = mapped_column(_DIGEST, index=True)
    reference: Mapped[str | None] = mapped_column(_DIGEST, index=True)
    input_digests: Mapped[dict[str, Any]]
    findings: Mapped[list[Any]]
    refer: Mapped[list[Any]]
    latencies_ms: Mapped[dict[str, Any]]


class FeedbackRow(Base):
    """What someone confirmed of one finding of an answer. Later feedback stands beside earlier, never over it."""

    __tablename__ = "feedback"
    __table_args__ = (CheckConstraint(f"state IN {STATES}", name="state"),)

    feedback_id: Mapped[UUID] = mapped_column(primary_key=True)
    finding: Mapped[str] = mapped_column(primary_key=True)
    result_id: Mapped[UUID] = mapped_column(ForeignKey("results.result_id", ondelete="CASCADE"), index=True)
    state: Mapped[str]
    time: Mapped[datetime]
    caller: Mapped[str]


class ClaimRow(Base):
    """One use of an idempotency key.

    Without an answer it is in flight, and `expires` is when its process must have crashed, unless `process` is known to
    be dead before; with one, the encrypted answer is replayed until then.
    """

    __tablename__ = "claims"

    key: Mapped[str] = mapped_column(_DIGEST, primary_key=True)
    key_id: Mapped[str]
    body: Mapped[str] = mapped_column(_DIGEST)
    owner: Mapped[UUID]
    expires: Mapped[datetime] = mapped_column(index=True)
    answer: Mapped[bytes | None] = mapped_column(LargeBinary)
    result_id: Mapped[UUID | None] = mapped_column(ForeignKey("results.result_id", ondelete="CASCADE"), index=True)
    process: Mapped[UUID | None]


class JobRow(Base):
    """Several studies that were handed over, and are answered while nobody waits.

    A process holds it as `owner` until `lease`, which it renews. From then on another process may take it.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(f"kind IN {JOB_KINDS}", name="kind"),
        CheckConstraint(f"state IN {JOB_STATES}", name="state"),
        Index(None, "state", "submitted"),
    )

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    caller: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]
    state: Mapped[str]
    submitted: Mapped[datetime]
    ended: Mapped[datetime | None]
    expires: Mapped[datetime] = mapped_column(index=True)
    owner: Mapped[UUID | None]
    lease: Mapped[datetime | None]
    losses: Mapped[int]


class JobStudyRow(Base):
    """One study of a job: the bytes that it takes, and once it is answered, its status and its sealed answer."""

    __tablename__ = "job_studies"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True)
    study: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int]
    status: Mapped[int | None]
    answer: Mapped[bytes | None] = mapped_column(LargeBinary)


class JobInputRow(Base):
    """A sealed chunk of what one study consists of, until it is answered."""

    __tablename__ = "job_inputs"
    __table_args__ = (
        ForeignKeyConstraint(["job_id", "study"], ["job_studies.job_id", "job_studies.study"], ondelete="CASCADE"),
    )

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    study: Mapped[int] = mapped_column(primary_key=True)
    chunk: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)
