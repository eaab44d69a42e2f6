import base64
import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from fhir.resources.R4B.bundle import Bundle

from consilium.domain.diagnosis import ModelIdentity
from consilium.output.reported import Presence, ReportedStudy, device_uid, reported_study
from hospital.fhir.results.bundle import FhirResult, PatientIdentifier, result_bundle, withdrawal_bundle
from tests.consilium.tiny_answer import REFER, UNDETERMINED, eventful_explanation, explanation, open_explanation

NOON = datetime(2024, 5, 1, 12, 30, tzinfo=UTC)
STUDY = "1.2.3"
BINDINGS = {
    ("Observation", "status"): {"preliminary", "cancelled", "entered-in-error"},
    ("DiagnosticReport", "status"): {"preliminary", "cancelled", "entered-in-error"},
    ("DocumentReference", "status"): {"current", "entered-in-error"},
    ("DocumentReference", "docStatus"): {"preliminary"},
    ("Device", "status"): {"active"},
}
"""What of the required bindings may be written here: R4's value sets have more, and none of it is meant."""


def reported(explained=None, revision: str = "r1") -> ReportedStudy:
    return reported_study((explained or explanation()).diagnosis, revision)


def result(explained=None, **changes) -> FhirResult:
    whole = {
        "reported": reported(explained),
        "study": STUDY,
        "patient": PatientIdentifier("urn:oid:1.9", "MRN-0042"),
        "created": NOON,
        "taken": NOON,
        "accession": ("urn:oid:1.8", "A-17"),
        "structured_report": "2.25.7",
    }
    return FhirResult(**{**whole, **changes})


def of_kind(bundle, kind: str) -> list[dict]:
    return [one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == kind]


def changed_model() -> ReportedStudy:
    return replace(reported(revision="r0"), model=ModelIdentity("other", "1", "ef" * 32))


BUNDLES = {
    "plain": result(),
    "referred": result(eventful_explanation()),
    "bare": result(accession=None, taken=None, structured_report=None),
    "second": result(open_explanation(), number=2, previous=reported(revision="r0")),
    "another model": result(number=2, previous=changed_model()),
}


@pytest.mark.parametrize("name", BUNDLES)
def test_transaction_is_valid_r4(name):
    bundle = result_bundle(BUNDLES[name])
    Bundle.model_validate(bundle)
    for entry in bundle["entry"]:
        resource = entry["resource"]
        for (kind, key), allowed in BINDINGS.items():
            if resource["resourceType"] == kind:
                assert resource[key] in allowed


@pytest.mark.parametrize("name", BUNDLES)
def test_every_reference_within_the_transaction_leads_to_an_entry(name):
    bundle = result_bundle(BUNDLES[name])
    urls = [entry["fullUrl"] for entry in bundle["entry"]]
    assert len(set(urls)) == len(urls)

    def references(found):
        if isinstance(found, dict):
            yield from (value for key, value in found.items() if key == "reference")
            found = list(found.values())
        if isinstance(found, list):
            for one in found:
                yield from references(one)

    inside = [one for one in references(bundle) if one.startswith("urn:")]
    assert inside
    assert set(inside) <= set(urls)


def test_observation_holds_answer_probability_interval_and_operating_point():
    alpha, beta = of_kind(result_bundle(result()), "Observation")
    assert alpha["code"]["coding"] == [{"system": "http://snomed.info/sct", "code": "233604007", "display": "Alpha"}]
    assert "coding" not in beta["code"]
    assert [one["valueCodeableConcept"]["coding"][0]["code"] for one in (alpha, beta)] == ["121054", "121053"]
    probability, interval, point, reached = beta["component"]
    ucum = {"unit": "1", "system": "http://unitsofmeasure.org", "code": "1"}
    assert probability["valueQuantity"] == {"value": 0.71, **ucum}
    assert (interval["valueRange"]["low"]["value"], interval["valueRange"]["high"]["value"]) == (0.62, 0.83)
    assert (point["valueQuantity"]["value"], reached["valueBoolean"]) == (0.3, True)
    assert beta["derivedFrom"][0]["identifier"] == {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}


def test_referred_finding_is_undetermined_with_its_reason():
    alpha, beta = of_kind(result_bundle(result(open_explanation())), "Observation")
    assert beta["valueCodeableConcept"]["text"] == "Presence Undetermined"
    assert beta["note"] == [{"text": f"Assess without the model. {UNDETERMINED}"}]
    assert "note" not in alpha


def test_referral_of_the_study_stands_before_every_number_of_the_report():
    (report,) = of_kind(result_bundle(result(eventful_explanation())), "DiagnosticReport")
    assert report["conclusion"].startswith(f"Referred: assess this study without the model. {REFER[0]}")
    page = base64.b64decode(report["presentedForm"][0]["data"]).decode()
    assert page.index("Referred") < page.index("<table>")
    assert page.count("undetermined") == 2


def test_presented_form_has_its_size_and_hash_and_escapes_what_it_shows():
    odd = replace(reported(), remarks=("<script>alert(1)</script>",))
    (report,) = of_kind(result_bundle(result(reported=odd)), "DiagnosticReport")
    (form,) = report["presentedForm"]
    page = base64.b64decode(form["data"])
    assert form["size"] == len(page)
    assert base64.b64decode(form["hash"]) == hashlib.sha1(page).digest()
    assert b"<script>" not in page


def test_everything_that_the_model_says_is_labelled_as_asserted_by_a_machine():
    for entry in result_bundle(result())["entry"]:
        resource = entry["resource"]
        if resource["resourceType"] != "Device":
            assert [one["code"] for one in resource["meta"]["security"]] == ["AIAST"]


def test_first_revision_is_created_unless_the_study_has_one_and_repeats_alike():
    bundle = result_bundle(result())
    assert bundle == result_bundle(result())
    for entry in bundle["entry"]:
        request, resource = entry["request"], entry["resource"]
        if resource["resourceType"] == "Provenance":
            assert request == {"method": "PUT", "url": f"Provenance/{resource['id']}"}
        else:
            identifier = resource["identifier"][0]
            assert request["ifNoneExist"] == f"identifier={identifier['system']}|{identifier['value']}"


def test_later_revision_updates_the_resources_of_the_study():
    first = result_bundle(result())
    second = result_bundle(result(reported=reported(open_explanation(), "r2"), number=2, previous=reported()))
    answers = ("Observation", "DiagnosticReport")
    urls = {one["request"]["url"] for one in second["entry"] if one["resource"]["resourceType"] in answers}
    made = [(one["request"]["url"], one["request"].get("ifNoneExist")) for one in first["entry"]]
    assert urls == {f"{kind}?{found}" for kind, found in made if kind in answers}
    assert {one["status"] for one in of_kind(second, "Observation")} == {"preliminary"}
    own = [one["identifier"][1] for bundle in (first, second) for one in of_kind(bundle, "DiagnosticReport")]
    assert own[0] != own[1]


def test_finding_that_is_no_more_answered_is_taken_back_without_its_value():
    shorter = replace(reported(revision="r2"), findings=reported().findings[:1])
    bundle = result_bundle(result(reported=shorter, number=2, previous=reported()))
    alpha, beta = of_kind(bundle, "Observation")
    assert (alpha["status"], beta["status"]) == ("preliminary", "cancelled")
    assert not {"valueCodeableConcept", "component"} & set(beta)
    (report,) = of_kind(bundle, "DiagnosticReport")
    assert len(report["result"]) == 1


def test_what_was_written_for_the_wrong_patient_is_entered_in_error_without_a_value():
    first = result_bundle(result())
    bundle = withdrawal_bundle(result(number=2))
    Bundle.model_validate(bundle)
    written = [one["resource"] for one in first["entry"]]
    lasting = {one["identifier"][0]["value"] for one in written if one.get("status") in ("preliminary", "current")}
    resources = [one["resource"] for one in bundle["entry"]]
    assert {one["identifier"][0]["value"] for one in resources} == lasting, "each of them"
    assert {one["status"] for one in resources} == {"entered-in-error"}
    assert {one["request"]["method"] for one in bundle["entry"]} == {"PUT"}
    assert {one["subject"]["identifier"]["value"] for one in resources} == {"MRN-0042"}
    assert not any({"valueCodeableConcept", "component", "conclusion", "presentedForm"} & set(one) for one in resources)


def test_report_of_another_model_is_taken_back():
    reports = of_kind(result_bundle(BUNDLES["another model"]), "DiagnosticReport")
    assert [one["status"] for one in reports] == ["preliminary", "cancelled"]
    assert reports[0]["identifier"][0] != reports[1]["identifier"][0]


def test_patient_is_found_by_identifier_and_never_created():
    bundle = result_bundle(result())
    assert of_kind(bundle, "Patient") == []
    for kind in ("Observation", "DiagnosticReport", "DocumentReference"):
        for resource in of_kind(bundle, kind):
            assert resource["subject"]["reference"] == "Patient?identifier=urn:oid:1.9|MRN-0042"


def test_identifiers_that_would_change_the_search_are_escaped():
    odd = PatientIdentifier("urn:oid:1.9", "A|B,C&identifier=D$\\")
    reference = odd.reference["reference"]
    assert reference == "Patient?identifier=urn:oid:1.9|A%5C%7CB%5C%2CC%26identifier%3DD%5C%24%5C%5C"


def test_provenance_says_that_the_device_is_the_author():
    bundle = result_bundle(result())
    (provenance,) = of_kind(bundle, "Provenance")
    (device,) = of_kind(bundle, "Device")
    assert device["identifier"][0]["value"] == f"urn:oid:{device_uid(reported().model)}"
    assert provenance["agent"][0]["who"]["reference"] == bundle["entry"][0]["fullUrl"]
    assert len(provenance["target"]) == 3


def test_bundle_and_structured_report_are_made_of_one_object():
    whole = reported(open_explanation())
    observations = of_kind(result_bundle(result(reported=whole)), "Observation")
    assert [one["component"][0]["valueQuantity"]["value"] for one in observations] == [
        finding.probability for finding in whole.findings
    ]
    assert whole.findings[1].presence is Presence.UNDETERMINED
