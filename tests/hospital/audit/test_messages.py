"""Audit messages: by the schema of the standard, and as a FHIR server takes them."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fhir.resources.R4B.auditevent import AuditEvent as FhirAuditEvent
from lxml import etree

from hospital.audit.audit_events import AuditCode, AuditEvent, Participant
from hospital.audit.dicom_message import audit_xml
from hospital.audit.fhir_message import audit_event
from hospital.store.received import PatientId

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).with_name("audit_message.rng")))
PACS = Participant("ORTHANC", requestor=True, role=AuditCode.SOURCE, address="10.0.0.5")
US = Participant("CONSILIUM", requestor=False, role=AuditCode.DESTINATION)
PATIENT = PatientId('4711 <"&>', "ward")
CHEST = "1.2.840.10008.5.1.4.1.1.1.1"

EVENTS = {
    "start": AuditEvent(AuditCode.APPLICATION_ACTIVITY, "E", NOON, (US,), type=AuditCode.APPLICATION_START),
    "instances": AuditEvent(
        AuditCode.INSTANCES_TRANSFERRED,
        "C",
        NOON,
        (PACS, US),
        patient=PATIENT,
        study="1.2.3",
        sop_classes={CHEST: 2},
    ),
    "begin": AuditEvent(
        AuditCode.BEGIN_TRANSFERRING, "E", NOON, (US, PACS), patient=PATIENT, study="1.2.3", sop_classes={CHEST: 1}
    ),
    "query": AuditEvent(AuditCode.QUERY, "E", NOON, (US, PACS), query=b"StudyInstanceUID=1.2.3"),
    "order": AuditEvent(
        AuditCode.ORDER_RECORD, "R", NOON, (PACS, US), patient=PATIENT, study="1.2.3", accession="A-17"
    ),
    "patient": AuditEvent(AuditCode.PATIENT_RECORD, "R", NOON, (PACS, US), patient=PatientId("4711")),
    "export": AuditEvent(AuditCode.EXPORT, "R", NOON, (US, PACS), patient=PATIENT, study="1.2.3"),
    "alert": AuditEvent(
        AuditCode.SECURITY_ALERT, "E", NOON, (US, PACS), type=AuditCode.NODE_AUTHENTICATION, problem="calling"
    ),
}


@pytest.mark.parametrize("name", EVENTS)
def test_a_message_is_valid_by_the_schema_of_the_standard(name: str) -> None:
    SCHEMA.assertValid(etree.fromstring(audit_xml(EVENTS[name], "gateway", "radiology")))


@pytest.mark.parametrize("name", EVENTS)
def test_a_resource_is_valid_r4(name: str) -> None:
    FhirAuditEvent.model_validate_json(json.dumps(audit_event(EVENTS[name], "gateway", None)))


def test_a_message_says_what_who_whose_and_how_it_ended() -> None:
    message = etree.fromstring(audit_xml(EVENTS["instances"], "gateway", None))
    event = message.find("EventIdentification")
    assert (event.find("EventID").get("csd-code"), event.get("EventActionCode")) == ("110104", "C")
    assert (event.get("EventDateTime"), event.get("EventOutcomeIndicator")) == ("2026-01-05T12:00:00+00:00", "0")
    roles = {one.get("UserID"): one.find("RoleIDCode").get("csd-code") for one in message.iter("ActiveParticipant")}
    assert roles == {"ORTHANC": "110153", "CONSILIUM": "110152"}
    objects = {one.get("ParticipantObjectTypeCodeRole"): one for one in message.iter("ParticipantObjectIdentification")}
    assert objects["1"].get("ParticipantObjectID") == '4711 <"&>^^^ward'
    assert objects["3"].get("ParticipantObjectID") == "1.2.3"
    (counted,) = message.iter("SOPClass")
    assert (counted.get("UID"), counted.get("NumberOfInstances")) == (CHEST, "2")

    alert = etree.fromstring(audit_xml(EVENTS["alert"], "gateway", None))
    assert alert.find("EventIdentification").get("EventOutcomeIndicator") == "8"
    assert alert.findtext("EventIdentification/EventOutcomeDescription") == "calling"
    query = etree.fromstring(audit_xml(EVENTS["query"], "gateway", None))
    order = etree.fromstring(audit_xml(EVENTS["order"], "gateway", None))
    assert [one.get("Number") for one in order.iter("Accession")] == ["A-17"]
    assert base64.b64decode(query.findtext(".//ParticipantObjectQuery")) == b"StudyInstanceUID=1.2.3"


def test_a_resource_says_the_same() -> None:
    resource = audit_event(EVENTS["instances"], "gateway", "radiology")
    assert (resource["type"]["code"], resource["action"], resource["outcome"]) == ("110104", "C", "0")
    study, patient = resource["entity"]
    assert study["what"]["identifier"]["value"] == "urn:oid:1.2.3"
    assert study["detail"] == [{"type": CHEST, "valueString": "2"}]
    assert patient["what"]["identifier"] == {"value": '4711 <"&>', "assigner": {"display": "ward"}}
    assert audit_event(EVENTS["alert"], "gateway", None)["outcomeDesc"] == "calling"
