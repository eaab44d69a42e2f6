from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from consilium.domain.errors import InputError
from hospital.hl7.messages import parse
from hospital.hl7.results import Results, read_results
from hospital.hl7.source import Source, places
from hospital.store.received import Accession, Code, PatientId, ReceivedNote, ReceivedObservation, Status
from tests.hospital.hl7.sent_messages import NOW, OBR, PID, SITE, message, result

LABORATORY = Source(name="laboratory", terminology=SITE, patient_issuer="default")
TAKEN = datetime(2020, 3, 1, 10, 0, tzinfo=UTC)


def read(*segments: str, earlier: ReceivedObservation | None = None, source: Source = LABORATORY) -> Results:
    sent = message(*segments)
    return read_results(parse(sent), sent, source, NOW, lambda *_: earlier)


def value(obx: str, earlier: ReceivedObservation | None = None) -> ReceivedObservation:
    """The one value of a message of one OBX."""
    found = read(PID, OBR, obx, earlier=earlier)
    assert not found.texts
    (only,) = found.values
    return only


def test_a_value_with_all_that_is_kept_of_it() -> None:
    sent = message(PID, OBR, result("11,2", unit="mg/dl", time="20200301093000+0000"))
    (found,) = read_results(parse(sent), sent, LABORATORY, NOW, lambda *_: None).values
    assert found == ReceivedObservation(
        patient=PatientId("4711", "hospital"),
        accession=None,
        key="F1^LIS/1988-5/",
        version=hashlib.sha256(sent).hexdigest(),
        status=Status.FINAL,
        issued=datetime(2020, 3, 1, 11, 0, tzinfo=UTC),
        code="1988-5",
        local_code=Code("1988-5", "LN", "CRP"),
        value=11.2,
        unit="mg/dl",
        time=datetime(2020, 3, 1, 9, 30, tzinfo=UTC),
        source="laboratory",
    )


@pytest.mark.parametrize(
    ("letter", "status", "kept"),
    [
        ("F", Status.FINAL, 112.0),
        ("U", Status.FINAL, 112.0),
        ("C", Status.CORRECTED, 112.0),
        ("A", Status.CORRECTED, 112.0),
        ("P", Status.PRELIMINARY, 112.0),
        ("D", Status.WITHDRAWN, None),
        ("W", Status.WITHDRAWN, None),
        ("X", Status.WITHDRAWN, None),
        ("", Status.FINAL, 112.0),
    ],
)
def test_every_status_with_its_value(letter: str, status: Status, kept: float | None) -> None:
    found = value(result("112", status=letter))
    assert (found.status, found.value, found.problem) == (status, kept, None)


@pytest.mark.parametrize("letter", ["I", "N", "O", "R", "S", "V", "B", "Q"])
def test_a_status_without_a_result_gives_no_value(letter: str) -> None:
    found = read(PID, OBR, result("112", status=letter))
    assert (found.values, found.texts, found.unfinished) == ([], [], 1)


def test_a_value_without_any_status_is_not_taken() -> None:
    assert read(PID, OBR.removesuffix("|F"), result("112", status="")).values == []


def test_a_confirmation_without_a_value_makes_the_preliminary_one_final() -> None:
    preliminary = replace(value(result("112", status="P")), version="former", issued=TAKEN)
    found = value(result("", status="U"), earlier=preliminary)
    assert (found.status, found.value, found.unit, found.time) == (Status.FINAL, 112.0, "mg/L", TAKEN)
    assert found.issued > preliminary.issued
    assert found.version != "former"


def test_a_confirmation_of_nothing_says_so() -> None:
    found = value(result("", status="U"))
    assert (found.status, found.value) == (Status.FINAL, None)
    assert found.problem == "it was confirmed without a value, and none was received before"


def test_a_confirmation_does_not_bring_back_what_was_taken_back() -> None:
    withdrawn = replace(value(result("112", status="D")), version="former")
    assert value(result("", status="U"), earlier=withdrawn).value is None


@pytest.mark.parametrize(
    ("obx", "kept", "text", "problem"),
    [
        (result("^112", kind="SN"), 112.0, None, None),
        (result("=^112", kind="SN"), 112.0, None, None),
        (result(">^100", kind="SN"), None, ">100", "a limit is not a value"),
        (result("^1^:^128", kind="SN"), None, None, "a range or ratio is not a value"),
        (result("^10^-^20", kind="SN"), None, None, "a range or ratio is not a value"),
        (result("112", kind="ST"), 112.0, None, None),
        (result(">100", kind="ST"), None, ">100", "a limit is not a value"),
        (result("see comment", kind="ST"), None, "see comment", "value must be one finite number"),
        (result("1~2"), None, None, "it has more than one value"),
        (result("A^B", kind="ED"), None, None, "values of type ED are not read"),
        (result("7^7 mg^L", kind="CWE"), None, "7 mg", "value must be one finite number"),
        (result("80", code="PO2A^^L", unit="Torr"), 80.0, None, None),
        (result("112", code="X1^CRP^L^1988-5^CRP^LN"), 112.0, None, None),
        (result("112", code="CRP^CRP^L"), 112.0, None, None),
        (result("5", unit="furlong"), None, "5", "unit is not understood"),
        (result("112", unit="^mg/L^UCUM"), 112.0, None, None),
        (result(""), None, None, "no value"),
    ],
)
def test_kinds_of_values(obx: str, kept: float | None, text: str | None, problem: str | None) -> None:
    found = value(obx)
    assert found.value == kept
    assert found.text == text
    assert (found.problem or "").startswith(problem or "")
    assert (found.problem is None) == (problem is None)


def test_one_unusable_value_costs_no_other() -> None:
    found = read(PID, OBR, result("haemolysed", kind="ST"), result("80", code="PO2A^^L", unit="Torr"))
    assert [one.value for one in found.values] == [None, 80.0]


@pytest.mark.parametrize(
    ("obr", "time", "expected", "problem"),
    [
        (OBR, "20200301093000+0100", datetime(2020, 3, 1, 8, 30, tzinfo=UTC), None),
        (OBR, "", TAKEN, None),
        (OBR, "20200301", None, "its time (OBX-14, OBR-7) is missing or is no time of day"),
        (OBR.replace("20200301100000", ""), "", None, "its time (OBX-14, OBR-7) is missing or is no time of day"),
    ],
)
def test_the_time_is_that_of_the_specimen_and_never_that_of_the_message(
    obr: str, time: str, expected: datetime | None, problem: str | None
) -> None:
    (found,) = read(PID, obr, result("112", time=time)).values
    assert (found.time, found.problem) == (expected, problem)


def test_a_time_without_an_offset_is_meant_in_the_zone_of_the_sender() -> None:
    from tests.hospital.hl7.sent_messages import LABORATORY as BERLIN

    (found,) = read(PID, OBR, result("112"), source=BERLIN).values
    assert found.time == TAKEN - timedelta(hours=1)


def test_values_stand_under_the_patient_before_them() -> None:
    other = PID.replace("4711", "4712")
    found = read(PID, OBR, result("1"), other, OBR, result("2"))
    assert [(one.patient.value, one.value) for one in found.values] == [("4711", 1.0), ("4712", 2.0)]


@pytest.mark.parametrize("segments", [(OBR, result("1")), ("PID|1||||Muster", OBR, result("1"))])
def test_values_without_a_patient_are_refused(segments: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        read(*segments)


def test_serial_values_of_one_panel_have_keys_of_their_own() -> None:
    found = read(PID, OBR, result("1", time="20200301080000"), result("2", time="20200301090000"))
    assert [one.key for one in found.values] == ["F1^LIS/1988-5/", "F1^LIS/1988-5/#2"]


def test_a_correction_has_the_key_of_what_it_corrects() -> None:
    assert value(result("1")).key == value(result("2", status="C")).key


def test_an_accession_is_read_of_results_only_where_the_site_says_so() -> None:
    obr = "OBR|1|P1|F1|CHEM|||20200301100000|||||||||||A77^RIS"
    assert read(PID, obr, result("1")).values[0].accession is None
    site = replace(LABORATORY, result_accession_places=places("OBR-18"))
    assert read(PID, obr, result("1"), source=site).values[0].accession == Accession("A77", "RIS")


def note(*lines: str, code: str = "ANAM^Anamnese^L", kind: str = "FT", obr: str = OBR) -> list[ReceivedNote]:
    return read(PID, obr, *(result(line, kind=kind, code=code, unit="") for line in lines)).texts


def test_lines_of_a_document_become_one_note() -> None:
    (found,) = note("Fever since Friday.\\.br\\Cough \\T\\ rigor.", "Smoker.~Allergy: none.")
    assert found.text == "Fever since Friday.\nCough & rigor.\nSmoker.\nAllergy: none."
    assert (found.kind, found.status, found.time, found.problem) == ("history", Status.FINAL, TAKEN, None)
    assert found.patient == PatientId("4711", "hospital")
    assert found.key == "F1^LIS/ANAM"


def test_a_document_may_be_named_by_what_was_requested() -> None:
    obr = OBR.replace("CHEM^Chemistry^L", "18842-5^Discharge summary^LN")
    assert [found.text for found in note("Improved.", code="TXT^^L", obr=obr)] == ["Improved."]


def test_a_text_of_another_kind_is_no_note() -> None:
    found = read(PID, OBR, result("A long comment", kind="TX", code="CMT^^L", unit=""))
    assert found.texts == []
    assert [one.code for one in found.values] == [None]


@pytest.mark.parametrize("section", ["RAD", "CT", "rx"])
def test_a_report_of_images_is_never_a_note(section: str) -> None:
    obr = OBR.replace("||LAB|F", f"||{section}|F")
    (found,) = note("Effusion on the right.", obr=obr)
    assert found.text == ""
    assert found.problem == "it is a report of images (OBR-24), which gives the answer away"
