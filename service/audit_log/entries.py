"""What is recorded of one answer, and how it becomes a row without anything that names a patient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from time import perf_counter
from typing import Any, Protocol
from uuid import UUID, uuid4

from consilium.domain.diagnosis import Diagnosis, FindingResult, ModelIdentity
from consilium.domain.named_identifiers import named
from consilium.domain.study import Study
from consilium.monitoring.categories import study_categories
from service.audit_log.pseudonyms import AuditLogKey, Kind
from service.observability.tracing import tracing

_DIGITS = 5
"""Of figures that monitoring keeps: more say nothing of a distribution."""
_CODE = 16
"""Hexadecimal digits of a device's or a site's code."""


class Endpoint(StrEnum):
    """Where an answer was asked for."""

    DIAGNOSE = "diagnose"
    EXPLAIN = "explain"
    DRAFT = "draft"
    SIMILAR = "similar"
    SEARCH = "search"


SEARCH_INDEX = "search_index"
"""Among the input digests of a search: that of the index's manifest, which tells nothing of anybody."""


class Recordable(Protocol):
    """What is recorded of an answer: a `Diagnosis`, or what a search found."""

    @property
    def model(self) -> ModelIdentity: ...

    @property
    def input_digests(self) -> Mapping[str, str]: ...

    @property
    def findings(self) -> Sequence[FindingResult]: ...

    @property
    def refer_reasons(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Task:
    """One study of a job. Only the process that holds the job, as `owner`, may answer it, and only once.

    `stored` is the stored study by which readers see it; None where none do.
    """

    job_id: UUID
    study: int
    owner: UUID
    stored: UUID | None = None


@dataclass(frozen=True, slots=True)
class StudyTask:
    """One stored study. Only the process that holds it, as `owner`, may answer it, and only once."""

    study_id: UUID
    owner: UUID


@dataclass(frozen=True, slots=True)
class Origin:
    """Who asked, and how the request is called; `task` where it is a study of a job or a stored one: nobody waits."""

    caller: str
    request_id: str
    idempotency_key: str | None = None
    task: Task | StudyTask | None = None


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
    claim: Claim | Task | StudyTask | None = None
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

    def entry(
        self, study: Study, diagnosis: Recordable, body: bytes, role: str, readers_body: bytes | None = None
    ) -> Entry:
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
            readers_body=readers_body,
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
    readers_body : bytes or None
        The answer as readers of a stored study get it, where that is another one.
    """

    result_id: UUID
    time: datetime
    endpoint: Endpoint
    origin: Origin
    diagnosis: Recordable
    study: Study
    caller_reference: str | None
    latencies_ms: dict[str, float]
    body: bytes
    role: str
    claim: Claim | Task | StudyTask | None = None
    readers_body: bytes | None = None

    def values(self, key: AuditLogKey) -> dict[str, object]:
        """The columns of its `ResultRow`, the pseudonyms signed with `key`."""
        model = self.diagnosis.model
        patients = {record.patient_digest for record in self.study.records} - {None}
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
            "study": _pseudonym(key, Kind.STUDY, named(self.study, "study_digest")),
            "accession": _pseudonym(key, Kind.ACCESSION, named(self.study, "accession_digest")),
            "reference": _pseudonym(key, Kind.REFERENCE, self.caller_reference),
            "input_digests": _input_digests(key, self.study, self.diagnosis),
            "findings": [_finding(result) for result in self.diagnosis.findings],
            "refer_reasons": list(self.diagnosis.refer_reasons),
            "latencies_ms": self.latencies_ms,
        } | _targets(self.diagnosis)

    def monitored(self, key: AuditLogKey) -> dict[str, object] | None:
        """The columns of its `MonitoringRow`, devices and sites signed with `key`; None of what is no diagnosis."""
        diagnosis = self.diagnosis
        if not isinstance(diagnosis, Diagnosis):
            return None
        referred = bool(diagnosis.refer_reasons) or any(one.refer_reasons for one in diagnosis.findings)
        projections = {
            part: [round(figure, _DIGITS) for figure in figures] for part, figures in diagnosis.projections.items()
        }
        return {
            "result_id": self.result_id,
            "referred": referred,
            "present": list(diagnosis.modalities),
            "p_values": {one.part: round(one.p_value, _DIGITS) for one in diagnosis.out_of_distribution},
            "projections": projections,
            "categories": study_categories(self.study) | self._whence(key),
        }

    def _whence(self, key: AuditLogKey) -> dict[str, str]:
        """Keyed codes of the devices that made the records, where they are named, and of the site, else the caller."""
        devices = {record.device_digest for record in self.study.records} - {None}
        site = _one({record.site_digest for record in self.study.records}) or f"caller {self.origin.caller}"
        named = {Kind.SITE: site} | ({Kind.DEVICE: " ".join(sorted(map(str, devices)))} if devices else {})
        return {kind.value: key.pseudonym(kind, value)[:_CODE] for kind, value in named.items()}


def _one(digests: set[str | None]) -> str | None:
    """The only one of `digests`; None where there is none, or several."""
    known = digests - {None}
    return next(iter(known)) if len(known) == 1 else None


def _request_id(key: AuditLogKey, given: str) -> str:
    """Our own names of requests are UUIDs; what a caller thought up may name anybody."""
    try:
        return str(UUID(given))
    except ValueError:
        return f"hmac-sha256:{key.id}:{key.pseudonym(Kind.REQUEST, given)}"


def _pseudonym(key: AuditLogKey, kind: Kind, value: str | None) -> str | None:
    return None if value is None else key.pseudonym(kind, value)


def _input_digests(key: AuditLogKey, study: Study, diagnosis: Recordable) -> dict[str, str]:
    """Keyed where the record could be guessed from its digest, as a short note or a few values could."""
    as_they_are = {SEARCH_INDEX} | {record.field for record in study.records if not record.guessable}
    return {
        place: f"sha256:{digest}"
        if place.partition("[")[0] in as_they_are
        else f"hmac-sha256:{key.id}:{key.pseudonym(Kind.INPUT, digest)}"
        for place, digest in diagnosis.input_digests.items()
    }


def _targets(diagnosis: Recordable) -> dict[str, object]:
    """What a diagnosis answers beside the findings; a search answers nothing of it."""
    known = diagnosis if isinstance(diagnosis, Diagnosis) else None
    grades, survival = ((), ()) if known is None else (known.grades, known.survival)
    return {"grades": [one.to_json() for one in grades], "survival": [one.to_json() for one in survival]}


def _finding(result: FindingResult) -> dict[str, object]:
    return {
        "finding": result.finding,
        "probability": result.probability,
        "interval": list(result.interval),
        "call": result.call,
        "threshold": result.operating_point.threshold,
        "prediction_set": list(result.prediction_set),
    }
