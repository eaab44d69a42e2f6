"""An audit event as the XML message of DICOM. Source: PS3.15 A.5.1 (schema), A.5.3 (messages)."""

from __future__ import annotations

import base64
from xml.etree.ElementTree import Element, SubElement, tostring

from hospital.audit.audit_events import AuditCode, AuditEvent

_SUCCESS, _SERIOUS_FAILURE = "0", "8"
_PERSON, _SYSTEM_OBJECT = "1", "2"
_PATIENT, _REPORT = "1", "3"
_IP_ADDRESS = "2"
_APPLICATION_SERVER = "4"
_STUDY_UID = "110180", "DCM", "Study Instance UID"
_SOP_CLASS_UID = "110181", "DCM", "SOP Class UID"
_PATIENT_NUMBER = "2", "RFC-3881", "Patient Number"
_QUERY_SOP_CLASS = "1.2.840.10008.5.1.4.1.2.2.1"


def audit_xml(event: AuditEvent, source: str, site: str | None) -> bytes:
    """The message, in UTF-8.

    Parameters
    ----------
    source : str
        AuditSourceID: which system tells of it.
    site : str, optional
        AuditEnterpriseSiteID.
    """
    message = Element("AuditMessage")
    _identification(message, event)
    for one in event.participants:
        given = {"UserID": one.user, "UserIsRequestor": str(one.requestor).lower()}
        if one.address is not None:
            given |= {"NetworkAccessPointID": one.address, "NetworkAccessPointTypeCode": _IP_ADDRESS}
        participant = SubElement(message, "ActiveParticipant", given)
        if one.role is not None:
            _coded(participant, "RoleIDCode", one.role)
    teller = {"AuditSourceID": source} | ({"AuditEnterpriseSiteID": site} if site else {})
    told = SubElement(message, "AuditSourceIdentification", teller)
    SubElement(told, "AuditSourceTypeCode", {"csd-code": _APPLICATION_SERVER})
    _objects(message, event)
    return tostring(message, encoding="utf-8", xml_declaration=True)


def _identification(message: Element, event: AuditEvent) -> None:
    given = {
        "EventActionCode": event.action,
        "EventDateTime": event.time.isoformat(),
        "EventOutcomeIndicator": _SUCCESS if event.problem is None else _SERIOUS_FAILURE,
    }
    identification = SubElement(message, "EventIdentification", given)
    _coded(identification, "EventID", event.event)
    if event.type is not None:
        _coded(identification, "EventTypeCode", event.type)
    if event.problem is not None:
        SubElement(identification, "EventOutcomeDescription").text = event.problem


def _objects(message: Element, event: AuditEvent) -> None:
    if event.query is not None:
        asked = _object(message, _QUERY_SOP_CLASS, _SYSTEM_OBJECT, _REPORT, _SOP_CLASS_UID)
        SubElement(asked, "ParticipantObjectQuery").text = base64.b64encode(event.query).decode("ascii")
    if event.study is not None:
        study = _named(message, event.study, _SYSTEM_OBJECT, _REPORT, _STUDY_UID)
        if event.sop_classes or event.accession is not None:
            described = SubElement(study, "ParticipantObjectDescription")
            if event.accession is not None:
                SubElement(described, "Accession", {"Number": event.accession})
            for uid, count in sorted(event.sop_classes.items()):
                SubElement(described, "SOPClass", {"UID": uid, "NumberOfInstances": str(count)})
    if event.patient is not None:
        issuer = event.patient.issuer
        number = event.patient.value if issuer is None else f"{event.patient.value}^^^{issuer}"
        _named(message, number, _PERSON, _PATIENT, _PATIENT_NUMBER)


def _named(message: Element, value: str, kind: str, role: str, identifier: tuple[str, str, str]) -> Element:
    """An object under its identifier; the schema wants a name, and nothing more than the identifier is told."""
    found = _object(message, value, kind, role, identifier)
    SubElement(found, "ParticipantObjectName").text = value
    return found


def _object(message: Element, value: str, kind: str, role: str, identifier: tuple[str, str, str]) -> Element:
    given = {"ParticipantObjectID": value, "ParticipantObjectTypeCode": kind, "ParticipantObjectTypeCodeRole": role}
    found = SubElement(message, "ParticipantObjectIdentification", given)
    code, system, meaning = identifier
    coded = {"csd-code": code, "codeSystemName": system, "originalText": meaning}
    SubElement(found, "ParticipantObjectIDTypeCode", coded)
    return found


def _coded(parent: Element, name: str, code: AuditCode) -> None:
    SubElement(parent, name, {"csd-code": code.code, "codeSystemName": "DCM", "originalText": code.meaning})
