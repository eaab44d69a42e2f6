"""An audit event as a FHIR R4 AuditEvent. Source: FHIR R4, AuditEvent; IHE BALP takes the same codes."""

from __future__ import annotations

import base64
from typing import Any

from hospital.audit.audit_events import AuditCode, AuditEvent, Participant

_DICOM = "http://dicom.nema.org/resources/ontology/DCM"
_OBJECT_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_OBJECT_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_SOURCE_TYPE = "http://terminology.hl7.org/CodeSystem/security-source-type"
_SUCCESS, _SERIOUS_FAILURE = "0", "8"
_IP_ADDRESS = "2"

Json = dict[str, Any]


def audit_event(event: AuditEvent, source: str, site: str | None) -> Json:
    """The resource; parameters as in `hospital.audit.dicom_message.audit_xml`."""
    resource: Json = {
        "resourceType": "AuditEvent",
        "type": _coding(event.event),
        "action": event.action,
        "recorded": event.time.isoformat(),
        "outcome": _SUCCESS if event.problem is None else _SERIOUS_FAILURE,
        "agent": [_agent(one) for one in event.participants],
        "source": {
            "observer": {"display": source},
            "type": [{"system": _SOURCE_TYPE, "code": "4", "display": "Application Server"}],
            **({"site": site} if site else {}),
        },
    }
    if event.type is not None:
        resource["subtype"] = [_coding(event.type)]
    if event.problem is not None:
        resource["outcomeDesc"] = event.problem
    if entities := _entities(event):
        resource["entity"] = entities
    return resource


def _agent(participant: Participant) -> Json:
    agent: Json = {"who": {"display": participant.user}, "requestor": participant.requestor}
    if participant.role is not None:
        agent["type"] = {"coding": [_coding(participant.role)]}
    if participant.address is not None:
        agent["network"] = {"address": participant.address, "type": _IP_ADDRESS}
    return agent


def _entities(event: AuditEvent) -> list[Json]:
    found: list[Json] = []
    if event.query is not None:
        asked = {"query": base64.b64encode(event.query).decode("ascii")}
        found.append(_entity("2", "24", "Query") | asked)
    if event.study is not None:
        identifier = {"system": "urn:dicom:uid", "value": f"urn:oid:{event.study}"}
        study = _entity("2", "3", "Report") | {"what": {"type": "ImagingStudy", "identifier": identifier}}
        counts = [{"type": uid, "valueString": str(number)} for uid, number in sorted(event.sop_classes.items())]
        found.append(study | ({"detail": counts} if counts else {}))
    if event.accession is not None:
        order = {"type": "ServiceRequest", "identifier": {"value": event.accession}}
        found.append(_entity("2", "20", "Job") | {"what": order})
    if event.patient is not None:
        named: Json = {"value": event.patient.value}
        if event.patient.issuer is not None:
            named["assigner"] = {"display": event.patient.issuer}
        found.append(_entity("1", "1", "Patient") | {"what": {"type": "Patient", "identifier": named}})
    return found


def _entity(kind: str, role: str, meaning: str) -> Json:
    return {
        "type": {"system": _OBJECT_TYPE, "code": kind},
        "role": {"system": _OBJECT_ROLE, "code": role, "display": meaning},
    }


def _coding(code: AuditCode) -> Json:
    return {"system": _DICOM, "code": code.code, "display": code.meaning}
