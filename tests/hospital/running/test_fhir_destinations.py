from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from uuid import UUID

import pytest
from fhir.resources.R4B.bundle import Bundle

from consilium.domain.errors import InputError
from consilium.domain.study import Sex
from consilium.formats.time_zone import TimeZone
from hospital.configuration.route_settings import FhirDestination
from hospital.running.delivery_parts import transaction_sender
from hospital.running.result_objects import Answered, ResultObjects, fhir_transaction
from hospital.store.received import Accession, PatientId
from hospital.store.state import Addressee, Delivery, DeliveryStage, QueuedDelivery
from hospital.studies.answered_study import answer_of
from hospital.studies.dicom_results import DicomResults
from tests.hospital.running.settings_sample import settings
from tests.hospital.studies.records import NOON
from tests.hospital.studies.test_dicom_results import answered

MORE = """
identifiers: {ward: {known_as: [WARD, 1.2.840.1]}}
fhir: {ehr: {url: "http://127.0.0.1:9/fhir", patient_system: "urn:oid:1.9", patient_issuer: ward}}
peers: {archive: {ae_title: ARCHIVE, address: "127.0.0.1:104", may: [receive]}}
destinations: {chart: {kind: fhir, server: ehr}, pacs: {kind: dicom, peer: archive}}
"""
CHART = FhirDestination(kind="fhir", server="ehr")


def study(**changes):
    order = Accession("A-17", "ward")
    whole = replace(answered(), patient=PatientId("MRN-1", "ward"), accession=order, destinations=("chart", "pacs"))
    return replace(whole, **changes)


def transactions(folder: Path, made):
    return fhir_transaction("chart", CHART, Answered(settings(folder, MORE), made, DicomResults(made, TimeZone("UTC"))))


def resources(delivery, kind: str) -> list[dict]:
    entries = json.loads(delivery.content)["entry"]
    return [one["resource"] for one in entries if one["resource"]["resourceType"] == kind]


def test_answer_becomes_one_transaction_for_the_patient_and_the_order(tmp_path):
    (delivery,) = transactions(tmp_path, study())
    Bundle.model_validate_json(delivery.content)
    (report,) = resources(delivery, "DiagnosticReport")
    assert report["subject"]["identifier"] == {"system": "urn:oid:1.9", "value": "MRN-1"}
    assert report["basedOn"][0]["identifier"]["system"] == "urn:oid:1.2.840.1"
    assert report["basedOn"][0]["identifier"]["value"] == "A-17"
    assert (delivery.destination, delivery.kind, delivery.study) == ("chart", "bundle", study().study)
    assert transactions(tmp_path, study()) == [delivery]


def test_structured_report_is_named_where_it_goes_to_an_archive_too(tmp_path):
    (delivery,) = transactions(tmp_path, study())
    (document,) = resources(delivery, "DocumentReference")
    made = DicomResults(study(), TimeZone("UTC"))
    assert document["masterIdentifier"]["value"] == f"urn:oid:{made.deliveries('pacs', ['sr'])[0].key}"
    (alone,) = transactions(tmp_path, replace(study(), destinations=("chart",)))
    assert resources(alone, "DocumentReference") == []


@pytest.mark.parametrize("patient", [None, PatientId("MRN-1", None), PatientId("MRN-1", "other")])
def test_nothing_goes_to_a_server_that_does_not_know_the_patient_and_a_person_is_told(tmp_path, patient, caplog):
    (delivery,) = transactions(tmp_path, replace(study(), patient=patient))
    assert delivery.content == b""
    assert delivery.problem == "the patient has no identifier of ward, by which ehr knows one"
    assert "knows the patient of a study by no identifier" in caplog.text
    assert "MRN-1" not in caplog.text


def addressed(patient: PatientId):
    made = study()
    whom = Addressee(patient, made.accession, None, "Sample^Anna", date(1960, 2, 3), Sex.FEMALE, made.taken)
    return replace(made.revision, addressee=whom)


def queued(destination: str, kind: str, stage=DeliveryStage.SENT, attempts: int = 0):
    made = Delivery(f"key of {kind}", destination, kind, b"", study().study)
    return QueuedDelivery(1, made, stage, attempts, NOON, NOON)


def test_result_of_the_wrong_patient_is_withdrawn_wherever_it_may_have_arrived(tmp_path):
    more = MORE.replace("destinations: {", 'destinations: {ris: {kind: hl7, address: "127.0.0.1:9"}, ')
    made = ResultObjects(settings(tmp_path, more))
    sent = [queued("pacs", "sr"), queued("chart", "bundle"), queued("ris", "oru"), queued("gone", "oru")]

    withdrawals = made.withdrawals(addressed(PatientId("MRN-1", "ward")), sent, NOON)

    assert [(one.destination, one.kind, one.revision) for one in withdrawals] == [
        ("chart", "bundle", None),
        ("ris", "oru", None),
    ]
    transaction, message = withdrawals
    (document,) = resources(transaction, "DocumentReference")
    assert (document["status"], document["subject"]["identifier"]["value"]) == ("entered-in-error", "MRN-1")
    assert document["masterIdentifier"]["value"] == "urn:oid:key of sr"
    assert b"PID|1||MRN-1^^^WARD^MR||Sample^Anna||19600203|F" in message.content
    unsent = [
        queued("ris", "oru", DeliveryStage.SUPERSEDED),
        queued("ris", "oru", DeliveryStage.DROPPED, attempts=1),
        replace(queued("chart", "bundle", DeliveryStage.SUPERSEDED), problem="no connection (ReadTimeout)"),
    ]
    tried = made.withdrawals(addressed(PatientId("MRN-1", "ward")), unsent, NOON)
    assert [one.destination for one in tried] == ["chart"], "its answer may have been lost"
    assert made.withdrawals(addressed(PatientId("MRN-1", "other")), [queued("chart", "bundle")], NOON) == []


def test_a_withdrawn_answer_leaves_the_page_of_every_service_that_has_readers(tmp_path):
    given = settings(tmp_path, MORE)
    everything = given.routes["everything"]
    routes = {"hand": everything, "chest": everything.model_copy(update={"reading_group": "chest"})}
    made = ResultObjects(given.model_copy(update={"routes": routes}))
    revision = addressed(PatientId("MRN-1", "ward"))
    answer = answer_of(revision).model_copy(update={"result_id": UUID(int=7)})
    recorded = replace(revision, answer=answer.model_dump_json().encode())
    (removal,) = made.withdrawals(recorded, [], NOON)
    assert (removal.destination, removal.kind, removal.content) == (
        "page of default",
        "page",
        str(UUID(int=7)).encode(),
    )
    unrecorded = answer.model_copy(update={"result_id": None})
    assert made.withdrawals(replace(revision, answer=unrecorded.model_dump_json().encode()), [], NOON) == []


def test_later_revision_updates_what_the_first_one_made(tmp_path):
    first, second = study(), study()
    revision = replace(second.revision, revision="ef" * 32, number=2)
    second = replace(second, revision=revision, previous=first.revision)
    (delivery,) = transactions(tmp_path, second)
    entries = json.loads(delivery.content)["entry"]
    methods = {one["resource"]["resourceType"]: one["request"]["method"] for one in entries}
    assert (methods["DiagnosticReport"], methods["Observation"], methods["Device"]) == ("PUT", "PUT", "POST")


def test_server_that_says_not_how_it_knows_patients_is_refused_at_the_start(tmp_path):
    without = MORE.replace(', patient_system: "urn:oid:1.9", patient_issuer: ward', "")
    with pytest.raises(InputError, match=r"fhir\.ehr\.patient_system: got None, must be given, with patient_issuer"):
        transaction_sender(settings(tmp_path, without), CHART)
    assert transaction_sender(settings(tmp_path, MORE), CHART) is not None


def test_backend_service_without_its_key_is_refused_at_the_start(tmp_path):
    service = "backend_service: {client_id: c, key: {file: nowhere.pem}, key_id: k}"
    wanting = MORE.replace("patient_issuer: ward}", f"patient_issuer: ward, {service}}}")
    with pytest.raises(InputError, match=r"fhir\.ehr\.backend_service\.key: got '.*nowhere\.pem', must be a file"):
        transaction_sender(settings(tmp_path, wanting), CHART)
