from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fhir.resources.R4B.bundle import Bundle

from consilium.domain.errors import InputError
from consilium.formats.time_zone import TimeZone
from hospital.configuration.route_settings import FhirDestination
from hospital.running.delivery_parts import transaction_sender
from hospital.running.result_objects import Answered, fhir_transaction
from hospital.store.received import Accession, PatientId
from hospital.studies.dicom_results import DicomResults
from tests.hospital.running.settings_sample import settings
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
