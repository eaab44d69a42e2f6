"""A result as a FHIR R4 transaction: report, one observation a finding, device, provenance, the structured report.

Everything has an identifier that follows from the study, and one from the revision. The first revision creates
conditionally, a later one updates what has the study's identifier: a repeat makes nothing new, and a record system
shows one report a study and model, whose history has the former ones. Nothing is ever more than preliminary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from consilium.formats.dicom.own_objects import MANUFACTURER
from consilium.output.labels import percent
from consilium.output.reported import DISCLAIMER, ReportedFinding, ReportedStudy, derived_uid, device_uid
from hospital.fhir.results.presented_form import presented_form
from hospital.fhir.results.result_values import (
    ACCESSION_TYPE,
    AI_ASSERTED,
    AUTHOR,
    DICOM_UID,
    IMAGING_CATEGORY,
    IMAGING_REPORT,
    PROBABILITY,
    RADIOLOGY,
    Json,
    answer_concept,
    derived_urn,
    finding_concept,
    ratio,
    search_of,
    uid_identifier,
)

Status = Literal["preliminary", "cancelled", "entered-in-error"]


@dataclass(frozen=True, slots=True)
class PatientIdentifier:
    """By which the server finds its patient; it refuses the transaction unless there is exactly one."""

    system: str
    value: str = field(repr=False)

    @property
    def reference(self) -> Json:
        identifier: Json = {"system": self.system, "value": self.value}
        return {"reference": f"Patient?{search_of(identifier)}", "type": "Patient", "identifier": identifier}


@dataclass(frozen=True, slots=True)
class FhirResult:
    """A result that is to be written.

    Attributes
    ----------
    reported : ReportedStudy
    study : str
        Study Instance UID.
    patient : PatientIdentifier
    created : datetime
        With an offset from UTC.
    taken : datetime or None
        When the images were taken.
    accession : (system or None, number) or None
    number : int
        Of the study's revisions, from 1.
    previous : ReportedStudy or None
        Which this one supersedes.
    structured_report : str or None
        SOP Instance UID of the report that was sent to an archive.
    report_url : str or None
        Where it can be had (WADO-RS).
    """

    reported: ReportedStudy
    study: str
    patient: PatientIdentifier
    created: datetime
    taken: datetime | None = None
    accession: tuple[str | None, str] | None = field(default=None, repr=False)
    number: int = 1
    previous: ReportedStudy | None = None
    structured_report: str | None = None
    report_url: str | None = None

    @property
    def imaging_study(self) -> Json:
        return {"type": "ImagingStudy", "identifier": uid_identifier(self.study, DICOM_UID)}

    def urn(self, *what: str) -> str:
        """``fullUrl`` of a resource, by which the others of the transaction name it."""
        return derived_urn("fhir", self.reported.revision, *what)

    def identifiers(self, *what: str) -> list[Json]:
        """Of the study and model, which stays, and of the revision."""
        return [self.lasting(self.reported, *what), uid_identifier(self.reported.uid("fhir", *what))]

    def lasting(self, reported: ReportedStudy, *what: str) -> Json:
        return uid_identifier(derived_uid("fhir", self.study, reported.model.name, *what))


def result_bundle(result: FhirResult) -> Json:
    """The transaction."""
    entries = [
        _device(result),
        *(_entry(result, _observation(result, one), "observation", one.name) for one in result.reported.findings),
        _entry(result, _report(result), "report"),
        *([_entry(result, _document(result), "document")] if result.structured_report else []),
        *_withdrawn(result),
        _provenance(result),
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def withdrawal_bundle(result: FhirResult) -> Json:
    """The transaction that takes a result back which was written for the wrong patient."""
    reported = result.reported
    frames = [_observation_frame(result, reported, one, "entered-in-error") for one in reported.findings]
    entries = [
        *(_entry(result, frame, "observation", one.name) for frame, one in zip(frames, reported.findings, strict=True)),
        _entry(result, _report_frame(result, reported, "entered-in-error"), "report"),
        *([_entry(result, _document(result, "entered-in-error"), "document")] if result.structured_report else []),
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _entry(result: FhirResult, resource: Json, *what: str) -> Json:
    kind, found = resource["resourceType"], search_of(result.identifiers(*what)[0])
    if result.number > 1:
        request: Json = {"method": "PUT", "url": f"{kind}?{found}"}
    else:
        request = {"method": "POST", "url": kind, "ifNoneExist": found}
    return {"fullUrl": result.urn(*what), "resource": resource, "request": request}


def _meta() -> Json:
    return {"security": [AI_ASSERTED]}


def _device(result: FhirResult) -> Json:
    model = result.reported.model
    identifier = uid_identifier(device_uid(model))
    resource = {
        "resourceType": "Device",
        "identifier": [identifier],
        "status": "active",
        "manufacturer": MANUFACTURER,
        "serialNumber": model.manifest_digest,
        "deviceName": [{"name": model.name, "type": "model-name"}],
        "modelNumber": model.name,
        "type": {"text": "Artificial-Intelligence"},
        "version": [{"value": model.version}],
    }
    request = {"method": "POST", "url": "Device", "ifNoneExist": search_of(identifier)}
    return {"fullUrl": result.urn("device"), "resource": resource, "request": request}


def _observation(result: FhirResult, finding: ReportedFinding) -> Json:
    low, high = finding.interval
    resource = {
        **_observation_frame(result, result.reported, finding, "preliminary"),
        "identifier": result.identifiers("observation", finding.name),
        "issued": result.created.isoformat(),
        "valueCodeableConcept": answer_concept(finding.presence),
        "device": {"reference": result.urn("device")},
        "component": [
            {"code": PROBABILITY, "valueQuantity": ratio(finding.probability)},
            {"code": {"text": "Interval of the probability"}, "valueRange": {"low": ratio(low), "high": ratio(high)}},
            {"code": {"text": "Operating point"}, "valueQuantity": ratio(finding.threshold)},
            {"code": {"text": "Probability reaches the operating point"}, "valueBoolean": finding.called},
        ],
    }
    reasons = (*result.reported.refer_reasons, *finding.refer_reasons)
    if reasons:
        resource["note"] = [{"text": f"Assess without the model. {reason}"} for reason in reasons]
    return resource


def _observation_frame(result: FhirResult, reported: ReportedStudy, finding: ReportedFinding, status: Status) -> Json:
    """What an observation keeps also where a later revision takes it back."""
    return {
        "resourceType": "Observation",
        "meta": _meta(),
        "identifier": [result.lasting(reported, "observation", finding.name)],
        "status": status,
        "category": [IMAGING_CATEGORY],
        "code": finding_concept(finding),
        "subject": result.patient.reference,
        "derivedFrom": [result.imaging_study],
        **_taken(result),
    }


def _taken(result: FhirResult) -> Json:
    return {} if result.taken is None else {"effectiveDateTime": result.taken.isoformat()}


def _report(result: FhirResult) -> Json:
    reported = result.reported
    resource = {
        **_report_frame(result, reported, "preliminary"),
        "identifier": result.identifiers("report"),
        "issued": result.created.isoformat(),
        "result": [{"reference": result.urn("observation", one.name)} for one in reported.findings],
        "conclusion": _conclusion(reported),
        "presentedForm": [presented_form(reported, result.created)],
    }
    if result.accession is not None:
        system, number = result.accession
        order = {"type": ACCESSION_TYPE, **({"system": system} if system else {}), "value": number}
        resource["basedOn"] = [{"type": "ServiceRequest", "identifier": order}]
    return resource


def _report_frame(result: FhirResult, reported: ReportedStudy, status: Status) -> Json:
    return {
        "resourceType": "DiagnosticReport",
        "meta": _meta(),
        "identifier": [result.lasting(reported, "report")],
        "status": status,
        "category": [RADIOLOGY],
        "code": IMAGING_REPORT,
        "subject": result.patient.reference,
        "imagingStudy": [result.imaging_study],
        **_taken(result),
    }


def _conclusion(reported: ReportedStudy) -> str:
    """Referral before any finding; a number never without its answer."""
    referral = [f"Referred: assess this study without the model. {reason}" for reason in reported.refer_reasons]
    answers = [
        f"{one.display}: {one.presence.value} (probability {percent(one.probability)})." for one in reported.findings
    ]
    targets = [f"{one.display}: {one.answer} ({one.detail})." for one in reported.targets]
    return " ".join([*referral, *answers, *targets, DISCLAIMER])


def _document(result: FhirResult, status: Literal["current", "entered-in-error"] = "current") -> Json:
    """The structured report in the archive."""
    uid = result.structured_report
    assert uid is not None
    attachment = {"contentType": "application/dicom", "title": "Structured report (DICOM TID 1500)"}
    if result.report_url is not None:
        attachment["url"] = result.report_url
    return {
        "resourceType": "DocumentReference",
        "meta": _meta(),
        "masterIdentifier": uid_identifier(uid, DICOM_UID),
        "identifier": result.identifiers("document"),
        "status": status,
        "docStatus": "preliminary",
        "type": IMAGING_REPORT,
        "subject": result.patient.reference,
        "date": result.created.isoformat(),
        "content": [{"attachment": attachment}],
        "context": {"related": [result.imaging_study]},
    }


def _withdrawn(result: FhirResult) -> Iterator[Json]:
    """What the previous revision said and this one does not: findings, or all of it where another model answers."""
    previous = result.previous
    if previous is None:
        return
    same_model = previous.model.name == result.reported.model.name
    stays = {finding.name for finding in result.reported.findings} if same_model else set()
    gone = [
        _observation_frame(result, previous, one, "cancelled") for one in previous.findings if one.name not in stays
    ]
    for resource in [*gone, *([] if same_model else [_report_frame(result, previous, "cancelled")])]:
        found = search_of(resource["identifier"][0])
        yield {
            "fullUrl": derived_urn("fhir", result.reported.revision, "withdrawn", found),
            "resource": resource,
            "request": {"method": "PUT", "url": f"{resource['resourceType']}?{found}"},
        }


def _provenance(result: FhirResult) -> Json:
    """Has no identifier to be found by: an id of its own is put, so that a repeat is an update."""
    name = derived_urn("fhir", result.reported.revision, "provenance").removeprefix("urn:uuid:")
    targets = [result.urn("report"), *(result.urn("observation", one.name) for one in result.reported.findings)]
    resource = {
        "resourceType": "Provenance",
        "id": name,
        "meta": _meta(),
        "target": [{"reference": one} for one in targets],
        "recorded": result.created.isoformat(),
        "reason": [{"coding": [AI_ASSERTED]}],
        "agent": [
            {
                "type": AUTHOR,
                "role": [{"text": "Artificial-Intelligence"}],
                "who": {"reference": result.urn("device")},
            }
        ],
        "entity": [{"role": "source", "what": result.imaging_study}],
    }
    return {
        "fullUrl": derived_urn("fhir", result.reported.revision, "provenance"),
        "resource": resource,
        "request": {"method": "PUT", "url": f"Provenance/{name}"},
    }
