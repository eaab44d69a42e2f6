"""How the store lies in a database. Identifiers are keyed digests, bodies are sealed: see `hospital.store.keys`.

`migrations` makes these tables; the tests compare the two.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from consilium.databases.columns import TYPES, named_metadata
from hospital.store.state import DeliveryStage, StudyStage

_DIGEST = String(64)
STUDY_STAGES = tuple(stage.value for stage in StudyStage)
DELIVERY_STAGES = tuple(stage.value for stage in DeliveryStage)


class Base(DeclarativeBase):
    metadata = named_metadata()
    type_annotation_map = TYPES


class RecordRow(Base):
    """One version of something that was received.

    `key` stands for what it is over all its versions. `handled`: the study worker has seen it. `file` is a sealed file.
    """

    __tablename__ = "records"
    __table_args__ = (
        UniqueConstraint("kind", "key", "version", name="uq_records_version"),
        UniqueConstraint("file", name="uq_records_file"),
        Index(None, "kind", "patient"),
        Index(None, "study", "kind"),
        Index(None, "accession"),
        Index(None, "handled", "number"),
        {"sqlite_autoincrement": True},
    )

    number: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    key: Mapped[str] = mapped_column(_DIGEST)
    version: Mapped[str] = mapped_column(_DIGEST)
    patient: Mapped[str | None] = mapped_column(_DIGEST)
    accession: Mapped[str | None] = mapped_column(_DIGEST)
    study: Mapped[str | None] = mapped_column(_DIGEST)
    issued: Mapped[datetime]
    received: Mapped[datetime] = mapped_column(index=True)
    handled: Mapped[bool]
    file: Mapped[str | None] = mapped_column(String(32))
    body: Mapped[bytes] = mapped_column(LargeBinary)


class MessageRow(Base):
    """A message as it came."""

    __tablename__ = "messages"
    __table_args__ = (UniqueConstraint("key", name="uq_messages_key"), {"sqlite_autoincrement": True})

    number: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(_DIGEST)
    protocol: Mapped[str] = mapped_column(String(8))
    source: Mapped[str]
    received: Mapped[datetime] = mapped_column(index=True)
    problem: Mapped[str | None]
    body: Mapped[bytes] = mapped_column(LargeBinary)


class AliasRow(Base):
    """The patient identifier `goes` is another one of the person `stays`."""

    __tablename__ = "aliases"

    goes: Mapped[str] = mapped_column(_DIGEST, primary_key=True)
    stays: Mapped[str] = mapped_column(_DIGEST, index=True)
    time: Mapped[datetime]
    body: Mapped[bytes] = mapped_column(LargeBinary)


class StudyRow(Base):
    __tablename__ = "studies"
    __table_args__ = (CheckConstraint(f"stage IN {STUDY_STAGES}", name="stage"), Index(None, "stage", "due"))

    study: Mapped[str] = mapped_column(_DIGEST, primary_key=True)
    patient: Mapped[str | None] = mapped_column(_DIGEST, index=True)
    accession: Mapped[str | None] = mapped_column(_DIGEST, index=True)
    stage: Mapped[str] = mapped_column(String(16))
    due: Mapped[datetime | None]
    last: Mapped[datetime] = mapped_column(index=True)
    version: Mapped[int]
    body: Mapped[bytes] = mapped_column(LargeBinary)


class RevisionRow(Base):
    """One answer to a study."""

    __tablename__ = "revisions"
    __table_args__ = (UniqueConstraint("study", "number", name="uq_revisions_number"),)

    revision: Mapped[str] = mapped_column(_DIGEST, primary_key=True)
    study: Mapped[str] = mapped_column(_DIGEST)
    number: Mapped[int]
    time: Mapped[datetime] = mapped_column(index=True)
    body: Mapped[bytes] = mapped_column(LargeBinary)


class DeliveryRow(Base):
    """One object for one destination; `content` goes once it is delivered or given up."""

    __tablename__ = "outbox"
    __table_args__ = (
        CheckConstraint(f"stage IN {DELIVERY_STAGES}", name="stage"),
        UniqueConstraint("destination", "key", name="uq_outbox_key"),
        Index(None, "destination", "stage", "due"),
        {"sqlite_autoincrement": True},
    )

    number: Mapped[int] = mapped_column(primary_key=True)
    destination: Mapped[str]
    key: Mapped[str] = mapped_column(_DIGEST)
    kind: Mapped[str]
    stage: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int]
    created: Mapped[datetime]
    due: Mapped[datetime]
    ended: Mapped[datetime | None] = mapped_column(index=True)
    problem: Mapped[str | None]
    study: Mapped[str | None] = mapped_column(_DIGEST, index=True)
    revision: Mapped[str | None] = mapped_column(_DIGEST)
    after: Mapped[list[Any]]
    body: Mapped[bytes] = mapped_column(LargeBinary)
    content: Mapped[bytes | None] = mapped_column(LargeBinary)


class ClaimRow(Base):
    """A work item of a worklist that the gateway claimed."""

    __tablename__ = "claims"
    __table_args__ = (Index(None, "worklist", "stage"),)

    claim: Mapped[str] = mapped_column(_DIGEST, primary_key=True)
    worklist: Mapped[str]
    stage: Mapped[str] = mapped_column(String(16))
    began: Mapped[datetime]
    ended: Mapped[datetime | None] = mapped_column(index=True)
    body: Mapped[bytes] = mapped_column(LargeBinary)


class PriorSearchRow(Base):
    """The search for priors of a study; `due` is null once it is ended."""

    __tablename__ = "prior_searches"

    study: Mapped[str] = mapped_column(_DIGEST, primary_key=True)
    due: Mapped[datetime | None] = mapped_column(index=True)
    until: Mapped[datetime] = mapped_column(index=True)
    body: Mapped[bytes] = mapped_column(LargeBinary)


class PositionRow(Base):
    """How far something was read, such as the polling of a FHIR server."""

    __tablename__ = "positions"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]
