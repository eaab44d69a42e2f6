"""What is recorded of one answer, and how it becomes a row without anything that names a patient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from time import perf_counter
from typing import Any
from uuid import UUID, uuid4

from consilium.domain.diagnosis import Diagnosis, FindingResult
from consilium.domain.study import Study
from service.audit_log.pseudonyms import AuditLogKey, Kind
from service.observability.tracing import tracing


class Endpoint(StrEnum):
    """Where an answer was asked for."""

    DIAGNOSE = "diagnose"
    EXPLAIN = "explain"
    SIMILAR = "similar"


@dataclass(frozen=True, slots=True)
class Task:
    """One study of a job. Only the process that holds the job, as `owner`, may answer it, and only once."""

    job_id: UUID
    study: int
    owner: UUID


@dataclass(frozen=True, slots=True)
class Origin:
    """Who asked, and how the request is called; `task` where it is a job's study, which nobody waits for."""

    caller: str
    request_id: str
    idempotency_key: str | None = None
    task: Task | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """An idempotency key that this request holds: nobody else answers it meanwhile."""

    key: str
    key_id: str
    owner: UUID


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """What is known of an answer before it is made."""

    endpoint: Endpoint
    origin: Origin
    caller_reference: str | None
    claim: Claim | Task | None = None
    result_id: UUID = field(default_factory=uuid4)
    latencies_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measures what happens inside as stage `name`."""
        begun = perf_counter()
        with tracing.stage(name):
            yield
        self.latencies_ms[name] = round(1000 * (perf_counter() - begun), 3)

    def service_fields(self) -> dict[str, Any]:
        """What the answer holds beside the diagnosis."""
        return {"result_id": self.result_id, "caller_reference": self.caller_reference}

    def entry(self, study: Study, diagnosis: Diagnosis, body: bytes, role: str) -> Entry:
        """The answer, as it is about to be sent."""
        return Entry(
            result_id=self.result_id,
            time=datetime.now(UTC),
            endpoint=self.endpoint,
            origin=self.origin,
            diagnosis=diagnosis,
            study=study,
            caller_reference=self.caller_reference,
            latencies_ms=self.latencies_ms,
            body=body,
            claim=self.claim,
            role=role,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One answer, as it is about to be sent.

    Attributes
    ----------
    latencies_ms : dict of str to float
        How long each stage before the commit took.
    body : bytes
        The answer itself; kept, encrypted, where `claim` says that it may have to be given again.
    role : str
        Of the model that answered: whether callers get its answers, or it only listens.
    """

    result_id: UUID
    time: datetime
    endpoint: Endpoint
    origin: Origin
    diagnosis: Diagnosis
    study: Study
    caller_reference: str | None
    latencies_ms: dict[str, float]
    body: bytes
    role: str
    claim: Claim | Task | None = None

    def values(self, key: AuditLogKey) -> dict[str, object]:
        """The columns of its `ResultRow`, the pseudonyms signed with `key`."""
        model = self.diagnosis.model
        patients = {record.patient_digest for record in self.study.records} - {None}
        studies = {record.study_digest for record in self.study.records} - {None}
        return {
            "result_id": self.result_id,
            "time": self.time,
            "endpoint": self.endpoint.value,
            "role": str(self.role),
            "request_id": _request_id(key, self.origin.request_id),
            "caller": self.origin.caller,
            "model_name": model.name,
            "model_version": model.version,
            "manifest_digest": model.manifest_digest,
            "key_id": key.id,
            "patient": _pseudonym(key, Kind.PATIENT, next(iter(patients), None)),
            "study": _pseudonym(key, Kind.STUDY, next(iter(studies), None)),
            "reference": _pseudonym(key, Kind.REFERENCE, self.caller_reference),
            "input_digests": _input_digests(key, self.study, self.diagnosis),
            "findings": [_finding(result) for result in self.diagnosis.findings],
            "refer": list(self.diagnosis.refer_reasons),
            "latencies_ms": self.latencies_ms,
        }


def _request_id(key: AuditLogKey, given: str) -> str:
    """Our own names of requests are UUIDs; what a caller thought up may name anybody."""
    try:
        return str(UUID(given))
    except ValueError:
        return f"hmac-sha256:{key.id}:{key.pseudonym(Kind.REQUEST, given)}"


def _pseudonym(key: AuditLogKey, kind: Kind, value: str | None) -> str | None:
    return None if value is None else key.pseudonym(kind, value)


def _input_digests(key: AuditLogKey, study: Study, diagnosis: Diagnosis) -> dict[str, str]:
    """Keyed where the record could be guessed from its digest, as a short note or a few values could."""
    as_they_are = {record.field for record in study.records if not record.guessable}
    return {
        place: f"sha256:{digest}"
        if place.partition("[")[0] in as_they_are
        else f"hmac-sha256:{key.id}:{key.pseudonym(Kind.INPUT, digest)}"
        for place, digest in diagnosis.input_digests.items()
    }


def _finding(result: FindingResult) -> dict[str, object]:
    return {
        "finding": result.finding,
        "probability": result.probability,
        "interval": list(result.interval),
        "call": result.call,
        "threshold": result.operating_point.threshold,
        "prediction_set": list(result.prediction_set),
    }
