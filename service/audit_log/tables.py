"""How the audit log lies in a database: answers, what was confirmed of them, claims of keys, jobs, stored studies.

`migrations` makes these tables; the tests compare the two.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, LargeBinary, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from consilium.databases.columns import TYPES, named_metadata

STATES = ("present", "absent", "unknown")
JOB_KINDS = ("diagnose", "explain")
SIGN_IN_EVENTS = ("signed_in", "refused", "signed_out", "replaced", "revoked")
JOB_STATES = ("receiving", "queued", "running", "done", "failed", "cancelled")
MODEL_EVENTS = ("loaded", "removed", "refused")
STUDY_STATES = ("receiving", "queued", "running", "answered", "refused")
READ_KINDS = ("first", "revised")
FLAG_REASONS = ("model_error", "disagreement", "wrong_patient", "image_quality")
_DIGEST = String(64)


class Base(DeclarativeBase):
    metadata = named_metadata()
    type_annotation_map = TYPES


class LeasedRow:
    """The columns of a row that one process at a time works at.

    A process holds it as `owner` until `lease`, which it renews. From then on another process may take it, and `losses`
    counts how often one did.
    """

    KIND: ClassVar[str]

    state: Mapped[str]
    submitted: Mapped[datetime]
    expires: Mapped[datetime] = mapped_column(index=True)
    owner: Mapped[UUID | None]
    lease: Mapped[datetime | None]
    losses: Mapped[int]


class ResultRow(Base):
    """One answer. `patient`, `study`, `accession` and `reference` are pseudonyms by the key `key_id`."""

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
    accession: Mapped[str | None] = mapped_column(_DIGEST, index=True)
    reference: Mapped[str | None] = mapped_column(_DIGEST, index=True)
    input_digests: Mapped[dict[str, Any]]
    findings: Mapped[list[Any]]
    grades: Mapped[list[Any]] = mapped_column(server_default="[]")
    survival: Mapped[list[Any]] = mapped_column(server_default="[]")
    refer_reasons: Mapped[list[Any]]
    latencies_ms: Mapped[dict[str, Any]]


class MonitoringRow(Base):
    """What monitoring keeps of an answer beside its `ResultRow`: see `consilium.monitoring.monitored_answer`."""

    __tablename__ = "monitoring"

    result_id: Mapped[UUID] = mapped_column(ForeignKey("results.result_id", ondelete="CASCADE"), primary_key=True)
    referred: Mapped[bool]
    present: Mapped[list[Any]]
    p_values: Mapped[dict[str, Any]]
    projections: Mapped[dict[str, Any]]
    categories: Mapped[dict[str, Any]]


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
    source: Mapped[str] = mapped_column(server_default="feedback")
    influenced: Mapped[bool | None]


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


class JobRow(LeasedRow, Base):
    """Several studies that were handed over, and are answered while nobody waits.

    Those of a job with a `reading_group` are stored for its readers, too.
    """

    KIND = "job"

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(f"kind IN {JOB_KINDS}", name="kind"),
        CheckConstraint(f"state IN {JOB_STATES}", name="state"),
        Index(None, "state", "submitted"),
    )

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    caller: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]
    ended: Mapped[datetime | None]
    reading_group: Mapped[str | None]


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


class SessionRow(Base):
    """A session of the reading page. `digest` is of the secret in its cookie; `identity` is sealed for this row."""

    __tablename__ = "sessions"

    session_id: Mapped[UUID] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(_DIGEST, index=True, unique=True)
    caller: Mapped[str]
    method: Mapped[str]
    identity: Mapped[bytes] = mapped_column(LargeBinary)
    created: Mapped[datetime]
    seen: Mapped[datetime]
    ends: Mapped[datetime] = mapped_column(index=True)


class SignInRow(Base):
    """What happened at the reading page's entrance. `actor` ended another's session."""

    __tablename__ = "sign_ins"
    __table_args__ = (CheckConstraint(f"event IN {SIGN_IN_EVENTS}", name="event"),)

    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    time: Mapped[datetime] = mapped_column(index=True)
    event: Mapped[str]
    method: Mapped[str]
    caller: Mapped[str | None]
    session_id: Mapped[UUID | None]
    actor: Mapped[str | None]
    request_id: Mapped[str]


class SpentStateRow(Base):
    """The digest of a sign-in's `state` that an issuer has answered: no second answer to it is taken."""

    __tablename__ = "spent_states"

    digest: Mapped[str] = mapped_column(_DIGEST, primary_key=True)
    expires: Mapped[datetime] = mapped_column(index=True)


class StudyRow(LeasedRow, Base):
    """One study that is stored for its readers.

    `summary`, `contents`, `outcome`, `answer` and `problem` are sealed; each is null until it is known. `patient` is
    a pseudonym, and empty until then: see `service.studies.patient_index`. `beside`, of a prior, is one of the study
    that it is shown with: it is on no worklist and gets no answer.
    """

    KIND = "study"

    __tablename__ = "studies"
    __table_args__ = (
        CheckConstraint(f"state IN {STUDY_STATES}", name="state"),
        Index(None, "state", "submitted"),
        Index(None, "submitted", "study_id"),
        Index(None, "reading_group", "submitted", "study_id"),
        Index(None, "patient", "reading_group"),
        Index(None, "beside"),
        Index(None, "result_id"),
    )

    study_id: Mapped[UUID] = mapped_column(primary_key=True)
    reading_group: Mapped[str]
    caller: Mapped[str]
    pixels_until: Mapped[datetime] = mapped_column(index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    patient: Mapped[str] = mapped_column(_DIGEST, server_default="")
    summary: Mapped[bytes | None] = mapped_column(LargeBinary)
    contents: Mapped[bytes | None] = mapped_column(LargeBinary)
    outcome: Mapped[bytes | None] = mapped_column(LargeBinary)
    answer: Mapped[bytes | None] = mapped_column(LargeBinary)
    problem: Mapped[bytes | None] = mapped_column(LargeBinary)
    result_id: Mapped[UUID | None]
    beside: Mapped[str | None] = mapped_column(_DIGEST)


class StudyChunkRow(Base):
    """A sealed chunk of what was sent (``form``), until it is answered, or of a file's words (``images[0]``)."""

    __tablename__ = "study_chunks"

    study_id: Mapped[UUID] = mapped_column(ForeignKey("studies.study_id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    chunk: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class StudyViewRow(Base):
    """Somebody saw something of a study: ``images[0]``, ``answer``, ``detail``."""

    __tablename__ = "study_views"
    __table_args__ = (Index(None, "study_id", "caller"), Index(None, "time", "view_id"))

    view_id: Mapped[UUID] = mapped_column(primary_key=True)
    study_id: Mapped[UUID]
    what: Mapped[str]
    time: Mapped[datetime]
    caller: Mapped[str]


class StudyReadRow(Base):
    """What a reader decided. Later reads stand beside earlier ones, never over them."""

    __tablename__ = "study_reads"
    __table_args__ = (
        CheckConstraint(f"kind IN {READ_KINDS}", name="kind"),
        Index(None, "study_id"),
        Index(None, "time", "read_id"),
    )

    read_id: Mapped[UUID] = mapped_column(primary_key=True)
    study_id: Mapped[UUID]
    result_id: Mapped[UUID | None]
    kind: Mapped[str]
    findings: Mapped[dict[str, Any]]
    influenced: Mapped[bool]
    time: Mapped[datetime]
    caller: Mapped[str]


class StudyFlagRow(Base):
    """A reader wants a study looked at again, and why."""

    __tablename__ = "study_flags"
    __table_args__ = (CheckConstraint(f"reason IN {FLAG_REASONS}", name="reason"), Index(None, "study_id"))

    flag_id: Mapped[UUID] = mapped_column(primary_key=True)
    study_id: Mapped[UUID]
    reason: Mapped[str]
    finding: Mapped[str | None]
    time: Mapped[datetime]
    caller: Mapped[str]


class DeploymentEventRow(Base):
    """A model was loaded, let go of or refused by a process of the service. `reason` and `detail` are of a refusal."""

    __tablename__ = "deployment_events"
    __table_args__ = (CheckConstraint(f"event IN {MODEL_EVENTS}", name="event"),)

    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    time: Mapped[datetime] = mapped_column(index=True)
    role: Mapped[str]
    event: Mapped[str]
    model_name: Mapped[str]
    model_version: Mapped[str]
    manifest_digest: Mapped[str]
    reason: Mapped[str]
    detail: Mapped[str]
