"""What is written to, and read from, a FHIR server that is not ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from consilium.databases.database import read_url
from consilium.formats.time_zone import TimeZone
from hospital.audit.audit_events import AuditCode, AuditEvent, Participant
from hospital.audit.fhir_message import audit_event
from hospital.delivery.destinations import Refused
from hospital.fhir.fhir_client import FhirClient
from hospital.fhir.reading.polling import Polling
from hospital.fhir.reading.record_reader import FhirSource, RecordReader
from hospital.fhir.results.bundle import PatientIdentifier, result_bundle, withdrawal_bundle
from hospital.fhir.results.result_sender import ResourceSender, TransactionSender
from hospital.store.gateway_store import Store, StoreLocation
from hospital.store.received import PatientId
from hospital.store.state import Delivery, DeliveryStage, QueuedDelivery
from hospital.studies.rules.current_records import current_observations
from hospital.terminology.site_tables import Terminology
from tests.fhir_server.running import FhirServer, Resource, missing, running_fhir_server
from tests.hospital.fhir.results.test_bundle import reported, result

pytestmark = pytest.mark.anyio

SYSTEM = "urn:oid:1.9"
WRITTEN = ("Device", "DiagnosticReport", "DocumentReference", "Observation", "Provenance")


@pytest.fixture(scope="module")
def server() -> Iterator[FhirServer]:
    if reason := missing():
        pytest.skip(reason)
    with running_fhir_server() as one:
        yield one


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    url = read_url(f"sqlite:///{tmp_path / 'gateway.db'}", "url")
    opened = Store(StoreLocation(url, tmp_path, tmp_path / "store.key", free_bytes=1), lambda: datetime.now(UTC))
    opened.take()
    yield opened
    opened.close()


def known_patient(server: FhirServer, number: str) -> Resource:
    person = {"resourceType": "Patient", "identifier": [{"system": SYSTEM, "value": number}], "gender": "female"}
    return server.create(person | {"birthDate": "1960-02-03"})


async def sent(server: FhirServer, bundle: dict[str, Any]) -> None:
    await posted(TransactionSender(httpx.AsyncClient(base_url=server.url, trust_env=False)), bundle)


async def posted(sender: TransactionSender, content: dict[str, Any]) -> None:
    now = datetime.now(UTC)
    delivery = Delivery("k", "ehr", "bundle", json.dumps(content).encode())
    try:
        await sender.send(QueuedDelivery(1, delivery, DeliveryStage.WAITING, 0, now, now))
    finally:
        await sender.close()


def search_of_report(study: str) -> str:
    """By the identifier that the report of a study keeps over its revisions."""
    lasting = result(study=study).identifiers("report")[0]
    return f"{lasting['system']}|{lasting['value']}"


def counted(server: FhirServer) -> dict[str, int]:
    return {kind: len(server.search(kind)) for kind in WRITTEN}


async def test_a_transaction_is_taken_once_and_found_by_its_identifiers(server: FhirServer) -> None:
    person = known_patient(server, "MRN-0042")
    bundle = result_bundle(result())
    await sent(server, bundle)
    before = counted(server)
    assert before == {"Device": 1, "DiagnosticReport": 1, "DocumentReference": 1, "Provenance": 1} | {
        "Observation": len(result().reported.findings)
    }
    await sent(server, bundle)
    assert counted(server) == before

    report = next(one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == "DiagnosticReport")
    for identifier in report["identifier"]:
        (found,) = server.search("DiagnosticReport", identifier=f"{identifier['system']}|{identifier['value']}")
        assert found["conclusion"] == report["conclusion"]
        assert found["subject"]["reference"] == f"Patient/{person['id']}"
    observations = server.search("Observation", subject=f"Patient/{person['id']}", category="imaging")
    assert [one["reference"] for one in found["result"]] == [f"Observation/{one['id']}" for one in observations]
    (device,) = server.search("Device")
    assert {one["device"]["reference"] for one in observations} == {f"Device/{device['id']}"}


async def test_what_was_written_for_the_wrong_patient_is_in_error_until_the_right_one_has_it(
    server: FhirServer,
) -> None:
    for number in ("MRN-0051", "MRN-0052"):
        known_patient(server, number)
    wrong, right = (PatientIdentifier(SYSTEM, number) for number in ("MRN-0051", "MRN-0052"))
    first = result(study="1.2.6", reported=reported(revision="w1"), patient=wrong)
    await sent(server, result_bundle(first))

    await sent(server, withdrawal_bundle(replace(first, number=2)))

    (report,) = server.search("DiagnosticReport", identifier=search_of_report("1.2.6"))
    assert (report["status"], "conclusion" in report) == ("entered-in-error", False)
    second = result(study="1.2.6", reported=reported(revision="w2"), patient=right, number=2)
    await sent(server, result_bundle(second))
    (report,) = server.search("DiagnosticReport", identifier=search_of_report("1.2.6"))
    (person,) = server.search("Patient", identifier=f"{SYSTEM}|MRN-0052")
    assert (report["status"], report["subject"]["reference"]) == ("preliminary", f"Patient/{person['id']}")
    (former,) = server.search("Patient", identifier=f"{SYSTEM}|MRN-0051")
    for kind in ("DiagnosticReport", "Observation", "DocumentReference"):
        assert server.search(kind, subject=f"Patient/{former['id']}") == []


async def test_a_later_revision_is_a_new_version_of_what_is_there(server: FhirServer) -> None:
    if not server.search("Patient", identifier=f"{SYSTEM}|MRN-0042"):
        known_patient(server, "MRN-0042")
    first = result(study="1.2.4", reported=reported(revision="s1"))
    await sent(server, result_bundle(first))
    before = counted(server)
    second = result(study="1.2.4", reported=reported(revision="s2"), number=2, previous=first.reported)
    await sent(server, result_bundle(second))
    assert counted(server) == before | {"Provenance": before["Provenance"] + 1}
    (report,) = server.search("DiagnosticReport", identifier=search_of_report("1.2.4"))
    assert report["identifier"] == second.identifiers("report")
    assert server.versions(report) == 2


async def test_a_result_of_an_unknown_patient_is_refused_and_names_nobody(server: FhirServer) -> None:
    other = PatientIdentifier(SYSTEM, "MRN-NOBODY")
    with pytest.raises(Refused) as refused:
        await sent(server, result_bundle(result(study="1.2.5", patient=other)))
    assert "MRN-NOBODY" not in str(refused.value)
    assert server.search("DiagnosticReport", identifier=search_of_report("1.2.5")) == []


async def test_an_audit_event_is_taken(server: FhirServer) -> None:
    us, pacs = Participant("CONSILIUM", requestor=False), Participant("ORTHANC", requestor=True, address="10.0.0.5")
    told = {"patient": PatientId("MRN-0042", "hospital"), "study": "1.2.3", "sop_classes": {"1.2": 2}}
    event = AuditEvent(AuditCode.INSTANCES_TRANSFERRED, "C", datetime.now(UTC), (pacs, us), **told)
    client = httpx.AsyncClient(base_url=server.url, trust_env=False)
    await posted(ResourceSender(client, "AuditEvent"), audit_event(event, "gateway", "radiology"))
    (stored,) = server.search("AuditEvent", type="http://dicom.nema.org/resources/ontology/DCM|110104")
    assert stored["entity"][1]["what"]["identifier"]["value"] == "MRN-0042"


def laboratory_value(person: Resource, value: float, **fields: Any) -> Resource:
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [
            {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}
        ],
        "code": {"coding": [{"system": "http://loinc.org", "code": "1988-5"}]},
        "subject": {"reference": f"Patient/{person['id']}"},
        "effectiveDateTime": (datetime.now(UTC) - timedelta(hours=1)).isoformat(),
        "valueQuantity": {"value": value, "unit": "mg/L", "system": "http://unitsofmeasure.org", "code": "mg/L"},
        **fields,
    }


async def test_values_are_polled_and_corrections_follow(server: FhirServer, store: Store) -> None:
    person, other = known_patient(server, "L-1"), known_patient(server, "L-2")
    kept = server.create(laboratory_value(person, 112.0))
    server.create(laboratory_value(person, 7.0, status="preliminary"))
    limit = {"value": 100.0, "comparator": ">", "unit": "mg/L", "system": "http://unitsofmeasure.org", "code": "mg/L"}
    server.create(laboratory_value(person, 0.0, valueQuantity=limit))
    server.create(laboratory_value(other, 300.0))
    patient = PatientId("L-1", "hospital")
    async with httpx.AsyncClient(trust_env=False) as http:
        source = FhirSource("ehr", SYSTEM, "hospital", Terminology(), TimeZone("UTC"), categories=("laboratory",))
        reader = RecordReader(
            source,
            FhirClient(server.url, http),
            store.inbox,
            lambda one: store.records.observations([one]),
            store.clock,
        )
        polling = Polling(store, reader)
        await polling.read(patient)
        assert used_values(store, patient) == {f"Observation/{kept['id']}": 112.0}
        assert [one.sex.value for one in store.records.updates([patient])] == ["F"]
        corrected = laboratory_value(person, 48.0, status="corrected", id=kept["id"])
        server.update(corrected)
        await polling.read(patient)
        assert not store.inbox.add(*store.records.observations([patient])), "what comes twice is stored once"
    assert used_values(store, patient) == {f"Observation/{kept['id']}": 48.0}


def used_values(store: Store, patient: PatientId) -> dict[str, float]:
    """By the observation; a limit is no value."""
    current = current_observations(store.records.observations([patient]))
    return {one.key: one.value for one in current if one.value is not None}
