from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from fhir.resources.R4B.observation import Observation

from consilium.domain.errors import InputError
from consilium.domain.study import Sex
from consilium.formats.time_zone import TimeZone
from hospital.fhir.reading.clinical_documents import note_of, plain_text
from hospital.fhir.reading.laboratory_values import values_of
from hospital.fhir.reading.ordered_studies import order_of, update_of
from hospital.fhir.reading.resource_fields import Reading
from hospital.store.received import (
    Accession,
    Code,
    PatientId,
    PatientUpdate,
    ReceivedNote,
    ReceivedObservation,
    ReceivedOrder,
    Status,
)
from hospital.terminology.site_tables import CodeTable, Issuers, Terminology
from tests.hospital.fhir.stub_server import Resource, observation, patient

SITE = Terminology(
    local_codes=CodeTable([("urn:lab", "CRP", "1988-5")]),
    documents=CodeTable([("http://loinc.org", "34117-2", "history"), ("http://loinc.org", "18748-4", "history")]),
    issuers=Issuers({"urn:ris": "ris"}),
)
P1 = PatientId("4711", "hospital")
KNOWN = Reading(P1, "ehr", datetime(2020, 3, 1, 12, tzinfo=UTC), SITE, TimeZone("Europe/Berlin"))
TAKEN = datetime(2020, 3, 1, 9, 0, tzinfo=UTC)
UCUM = "http://unitsofmeasure.org"


def quantity(**fields: Any) -> dict[str, Any]:
    return {"valueQuantity": {"value": 11.2, "unit": "mg/dL", **fields}}


def value(**fields: Any) -> ReceivedObservation:
    (only,) = values_of(observation("1", **fields), KNOWN)
    return only


def test_a_value_with_all_that_is_kept_of_it() -> None:
    assert value() == ReceivedObservation(
        patient=P1,
        accession=None,
        key="Observation/1",
        version="1",
        status=Status.FINAL,
        issued=datetime(2020, 3, 1, 11, tzinfo=UTC),
        code="1988-5",
        local_code=Code("1988-5", "http://loinc.org", "CRP"),
        value=112.0,
        unit="mg/L",
        time=TAKEN,
        source="ehr",
    )


def test_the_stub_server_sends_what_a_validator_of_fhir_takes() -> None:
    assert Observation.model_validate(observation("1")).id == "1"


@pytest.mark.parametrize(
    ("sent", "status", "kept"),
    [
        ("final", Status.FINAL, 112.0),
        ("amended", Status.CORRECTED, 112.0),
        ("corrected", Status.CORRECTED, 112.0),
        ("preliminary", Status.PRELIMINARY, 112.0),
        ("entered-in-error", Status.WITHDRAWN, None),
        ("cancelled", Status.WITHDRAWN, None),
    ],
)
def test_every_status_with_its_value(sent: str, status: Status, kept: float | None) -> None:
    assert (value(status=sent).status, value(status=sent).value) == (status, kept)


@pytest.mark.parametrize("status", ["registered", "unknown", "nope", None, 7])
def test_a_status_without_a_result_gives_nothing(status: object) -> None:
    assert values_of(observation("1", status=status), KNOWN) == []


@pytest.mark.parametrize(
    ("fields", "kept", "unit", "problem"),
    [
        (quantity(), 11.2, "mg/dL", None),
        (quantity(unit="milligrams", code="mg/dL", system=UCUM), 11.2, "mg/dL", None),
        (quantity(unit="mg/dL", code="{score}", system=UCUM), 11.2, "mg/dL", None),
        (quantity(comparator=">"), None, "mg/dL", "a limit is not a value"),
        (quantity(value=None), None, "mg/dL", "no value"),
        (quantity(value=True), None, "mg/dL", "no value"),
        (quantity(value=10**400), None, "mg/dL", "no value"),
        (quantity(value=float("nan")), None, "mg/dL", "value must be a finite number"),
        (quantity(unit="furlong"), None, "furlong", "unit is not understood"),
        ({"valueQuantity": None, "valueString": "5 "}, None, None, "unit"),
        ({"valueQuantity": None, "valueRange": {"low": {"value": 1}}}, None, None, "its kind of value is not read"),
        ({"valueQuantity": None}, None, None, "its kind of value is not read"),
        ({"code": {"coding": [{"system": "urn:lab", "code": "CRP"}]}}, 112.0, "mg/L", None),
        ({"code": {"text": "CRP"}}, None, "mg/L", "no code of it is LOINC"),
        ({"effectiveDateTime": "2020-03-01"}, 112.0, "mg/L", "its time (effective)"),
    ],
)
def test_kinds_of_values(fields: Resource, kept: float | None, unit: str | None, problem: str | None) -> None:
    found = value(**fields)
    assert (found.value, found.unit) == (kept, unit)
    assert (found.problem or "").startswith(problem or "")
    assert (found.problem is None) == (problem is None)


@pytest.mark.parametrize(
    ("fields", "time"),
    [
        ({"effectiveDateTime": "2020-03-01T10:00:00-05:00"}, datetime(2020, 3, 1, 15, tzinfo=UTC)),
        ({"effectiveDateTime": None, "effectiveInstant": "2020-03-01T10:00:00Z"}, datetime(2020, 3, 1, 10, tzinfo=UTC)),
        (
            {"effectiveDateTime": None, "effectivePeriod": {"start": "2020-02-29", "end": "2020-03-01T10:00:00Z"}},
            datetime(2020, 3, 1, 10, tzinfo=UTC),
        ),
        ({"effectiveDateTime": None, "issued": "2020-03-01T10:00:00Z"}, None),
    ],
)
def test_the_time_is_when_it_holds_and_never_when_it_was_issued(fields: Resource, time: datetime | None) -> None:
    assert value(**fields).time == time


def component(code: str, number: float) -> Resource:
    return {
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "valueQuantity": {"value": number, "unit": "mmHg", "system": UCUM, "code": "mm[Hg]"},
    }


def pressures(*components: Resource, **fields: Any) -> Resource:
    panel = observation("9", code={"coding": [{"system": "http://loinc.org", "code": "85354-9"}]}, **fields)
    return {key: one for key, one in panel.items() if key != "valueQuantity"} | {"component": list(components)}


def test_components_are_values_of_their_own() -> None:
    found = values_of(pressures(component("8480-6", 120), component("8462-4", 80)), KNOWN)
    assert [(one.key, one.code, one.value, one.problem) for one in found] == [
        ("Observation/9#8480-6", "8480-6", 120.0, None),
        ("Observation/9#8462-4", "8462-4", 80.0, None),
    ]


def test_a_panel_entered_in_error_takes_back_components_that_it_no_longer_has() -> None:
    former = values_of(pressures(component("8480-6", 120), component("8462-4", 80)), KNOWN)
    other = replace(former[0], key="Observation/99#8480-6")
    found = values_of(pressures(status="entered-in-error"), KNOWN, [*former, other])
    assert {(one.key, one.status, one.value) for one in found} == {
        ("Observation/9", Status.WITHDRAWN, None),
        ("Observation/9#8480-6", Status.WITHDRAWN, None),
        ("Observation/9#8462-4", Status.WITHDRAWN, None),
    }


def test_a_component_that_was_dropped_is_taken_back() -> None:
    former = values_of(pressures(component("8480-6", 120), component("8462-4", 80)), KNOWN)
    found = values_of(pressures(component("8480-6", 125), status="corrected"), KNOWN, former)
    assert [(one.key, one.status) for one in found] == [
        ("Observation/9#8480-6", Status.CORRECTED),
        ("Observation/9#8462-4", Status.WITHDRAWN),
    ]


def attached(data: bytes, kind: str = "text/plain") -> Resource:
    return {"contentType": kind, "data": base64.b64encode(data).decode()}


def document(*attachments: Resource, code: str = "34117-2", **fields: Any) -> Resource:
    return {
        "resourceType": "DocumentReference",
        "id": "d1",
        "meta": {"versionId": "3", "lastUpdated": "2020-03-01T11:00:00Z"},
        "status": "current",
        "type": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": "Patient/p1"},
        "date": "2020-03-01T10:00:00+01:00",
        "content": [{"attachment": one} for one in attachments],
        **fields,
    }


async def note(resource: Resource, fetched: bytes | None = None) -> ReceivedNote | None:
    async def fetch(url: str, kind: str) -> bytes:
        assert (url, kind) == ("Binary/7", "text/plain")
        if fetched is None:
            raise InputError("attachment", "not fetched", "must be on the server")
        return fetched

    return await note_of(resource, KNOWN, fetch)


@pytest.mark.anyio
async def test_a_document_becomes_a_note() -> None:
    assert await note(document(attached("Husten, Fieber\nübel".encode()))) == ReceivedNote(
        patient=P1,
        accession=None,
        key="DocumentReference/d1",
        version="3",
        status=Status.FINAL,
        issued=datetime(2020, 3, 1, 11, tzinfo=UTC),
        kind="history",
        text="Husten, Fieber\nübel",
        time=TAKEN,
        source="ehr",
    )


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("attachments", "fetched", "text", "problem"),
    [
        ([attached(b"%PDF", "application/pdf"), attached(b"plain")], None, "plain", None),
        ([attached(b"<p>Fever &amp; <b>cough</b><script>x</script></p>", "text/html")], None, "Fever & cough", None),
        ([{"contentType": "text/plain", "url": "Binary/7"}], b"fetched", "fetched", None),
        ([{"contentType": "text/plain", "url": "Binary/7"}], None, "", "its attachment cannot be read"),
        ([{"contentType": "text/plain", "data": "@@@"}], None, "", "its attachment cannot be read"),
        ([attached(b"abc\xfc")], None, "", "its attachment cannot be read"),
        ([{"contentType": "text/plain", "data": "A" * 6_000_000}], None, "", "its attachment cannot be read"),
        ([attached(b"x" * 100_001)], None, "", "it has more than 100000 characters"),
        ([attached(b"abc\xfc", "text/plain; charset=ISO-8859-1")], None, "abcü", None),
        ([attached(b"abc", "text/plain;charset=zip")], None, "", "its attachment cannot be read"),
        ([attached(b" ")], None, "", "it is empty"),
        ([attached(b"%PDF", "application/pdf")], None, "", "it has no text that is read"),
        ([], None, "", "it has no text that is read"),
    ],
)
async def test_attachments(attachments: list[Resource], fetched: bytes | None, text: str, problem: str | None) -> None:
    found = await note(document(*attachments), fetched)
    assert found is not None
    assert (found.text, found.problem) == (text, problem)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"status": "superseded"}, Status.WITHDRAWN),
        ({"status": "entered-in-error"}, Status.WITHDRAWN),
        ({"docStatus": "amended"}, Status.CORRECTED),
        ({"docStatus": "preliminary"}, Status.PRELIMINARY),
        ({"status": "unheard"}, None),
        ({"type": {"coding": [{"code": "other"}]}}, None),
    ],
)
async def test_statuses_of_documents(fields: Resource, status: Status | None) -> None:
    found = await note(document(attached(b"text"), **fields))
    assert (found.status if found else None) == status


@pytest.mark.anyio
@pytest.mark.parametrize(
    "fields", [{"code": "18748-4"}, {"category": [{"coding": [{"system": "v2-0074", "code": "RAD"}]}]}]
)
async def test_a_report_of_images_is_never_a_note(fields: Resource) -> None:
    found = await note(document(attached(b"Effusion"), **fields))
    assert found is not None
    assert (found.text, found.problem) == ("", "it is a report of images, which gives the answer away")


@pytest.mark.anyio
async def test_a_diagnostic_report_gives_its_form_or_its_conclusion() -> None:
    report = {
        "resourceType": "DiagnosticReport",
        "id": "r1",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "34117-2"}]},
        "effectiveDateTime": "2020-03-01T09:00:00Z",
        "issued": "2020-03-02T09:00:00Z",
        "conclusion": "Chronic cough",
    }
    found = await note(report)
    assert found is not None
    assert (found.text, found.time, found.problem) == ("Chronic cough", TAKEN, None)
    formed = await note(report | {"presentedForm": [attached(b"The whole text")]})
    assert formed is not None
    assert formed.text == "The whole text"


def test_html_is_read_as_a_browser_shows_it() -> None:
    html = (
        "<head><title>x</title></head><h1>A</h1><div>b\n c<br>d</div><style>.a{}</style><table><tr><td>1<td>2</table>"
    )
    assert plain_text(html) == "A\nb c\nd\n1 2"
    assert plain_text("a &lt;b&gt; <!-- c --> <p" + "<div>" * 2000) == "a <b>"


def test_an_update_gives_birth_date_and_sex() -> None:
    expected = PatientUpdate(P1, date(1950, 7, 12), Sex.FEMALE, "ehr", datetime(2020, 3, 1, 8, tzinfo=UTC))
    assert update_of(patient(), KNOWN) == expected
    unknown = update_of(patient(birthDate="1950-07", gender="unknown"), KNOWN)
    assert (unknown.birth_date, unknown.sex) == (None, Sex.UNKNOWN)


def requested(*identifiers: tuple[str, str, str], **fields: Any) -> Resource:
    return {
        "resourceType": "ServiceRequest",
        "id": "s1",
        "status": "active",
        "subject": {"reference": "Patient/p1"},
        "authoredOn": "2020-03-01T09:00:00Z",
        "identifier": [
            {"type": {"coding": [{"code": kind}]}, "system": system, "value": value}
            for kind, system, value in identifiers
        ],
        **fields,
    }


def test_an_order_with_all_that_is_kept_of_it() -> None:
    sent = requested(
        ("ACSN", "urn:ris", "A77"),
        ("PLAC", "urn:kis", "P7"),
        ("", "urn:dicom:uid", "urn:oid:1.2.3.4"),
        code={"coding": [{"system": "http://snomed.info/sct", "code": "399208008", "display": "Chest X-ray"}]},
        reasonCode=[{"text": "Cough"}, {"coding": [{"code": "R50", "display": "Fever"}]}, {"text": "Cough"}],
        priority="stat",
    )
    assert order_of(sent, KNOWN) == ReceivedOrder(
        patient=P1,
        accession=Accession("A77", "ris"),
        study="1.2.3.4",
        placer="P7",
        filler="s1",
        reason="Cough\nFever",
        procedures=(Code("399208008", "http://snomed.info/sct", "Chest X-ray"),),
        time=TAKEN,
        source="ehr",
        priority="stat",
    )


def test_an_order_that_names_no_study_is_passed_over_and_a_revoked_one_is_cancelled() -> None:
    assert order_of(requested(("PLAC", "urn:kis", "P7")), KNOWN) is None
    revoked = order_of(requested(("ACSN", "", "A77"), status="revoked"), KNOWN, "default")
    assert revoked is not None
    assert (revoked.cancelled, revoked.accession) == (True, Accession("A77", "default"))
