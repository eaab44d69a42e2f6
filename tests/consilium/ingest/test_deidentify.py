from datetime import datetime

import pytest

from consilium.errors import InputError, UnreadableImage
from consilium.ingest.deidentify import deidentify_study, deidentify_text, names_in_dicom, pseudonym
from consilium.ingest.dicom import read_dicom
from consilium.ingest.records import study_from_records
from tests.consilium.ingest.dicom_files import dicom_file, ramp

KEY = b"a secret of the hospital"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mrs. Anna Schmidt was seen", "[name] was seen"),
        ("seen by Dr J. Smith today", "seen by [name] today"),
        ("MRN: 00123456, cough", "[id], cough"),
        ("patient id AB-123456 cough", "[id] cough"),
        ("SSN 123-45-6789", "[id]"),
        ("since 12/03/2020", "since [date]"),
        ("since 2020-03-12T10:15", "since [date]"),
        ("on March 5, 2021 worse", "on [date] worse"),
        ("on 5th of March worse", "on [date] worse"),
        ("call 020 7946 0018", "call 020 7946 0018"),
        ("tel 020 7946 0018", "[phone]"),
        ("call +44 20 7946 0018", "call [phone]"),
        ("call (555) 123-4567 now", "call [phone] now"),
        ("write a.b@example.org", "write [email]"),
        ("see https://example.org/x?y", "see [url]"),
        ("lives at 12 Baker Street alone", "lives at [address] alone"),
        ("accession A1234567", "accession [id]"),
    ],
)
def test_patterns(text, expected):
    assert deidentify_text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "67 y, BP 120/80, T 38.5 Cel, SpO2 94 %, CRP 120 mg/L, pH 7.35, WBC 12.4, 3/7 cough",
        "No focal consolidation. Heart size upper limit of normal; s/p CABG 2019.",
        "CTR 0.52, 2-3 cm effusion, T8-T9, in May worse, 10 pack years, 1-2 days",
        "pneumonia in 12/2019, O2 2 L/min, NT-proBNP 12000 pg/mL",
    ],
)
def test_findings_and_values_stay(text):
    assert deidentify_text(text, ["Wu^In^Jr"]) == text


def test_given_names_go_whatever_their_case_and_accents():
    names = ["Müller-Lüdenscheidt^Anna^^Dr", "O'Brien", "Wu"]
    text = "MULLER, anna: Lüdenscheidt. Mueller stays, O'BRIEN and O’Brien's go. Wu too; in wu no."
    assert deidentify_text(text, names) == (
        "[name], [name]: [name]. Mueller stays, [name] and [name] go. [name] too; in wu no."
    )


def test_identifiers_given_go_and_short_numbers_stay():
    assert deidentify_text("patient 0012345 CRP 120", ["0012345", "120"]) == "patient [id] CRP 120"


def test_names_of_a_dicom_file():
    data = dicom_file(ramp(), ReferringPhysicianName="Hibbert^Julius", OtherPatientNames="Muller^A", PatientID="MRN-7")
    assert names_in_dicom(data) == ("Müller^Anna", "Muller^A", "Hibbert^Julius", "MRN-7")
    with pytest.raises((InputError, UnreadableImage)):
        names_in_dicom(b"no DICOM")


def test_pseudonyms_are_stable_keyed_and_apart():
    assert pseudonym("MRN-7", key=KEY) == pseudonym("MRN-7", key=KEY)
    assert pseudonym("MRN-7", key=KEY) != pseudonym("MRN-8", key=KEY)
    assert pseudonym("MRN-7", key=KEY) != pseudonym("MRN-7", key=KEY[::-1])
    assert "7" not in pseudonym("MRN-7", key=KEY).removeprefix("p-") or len(pseudonym("MRN-7", key=KEY)) == 22
    with pytest.raises(InputError, match="16 secret bytes"):
        pseudonym("MRN-7", key=b"short")


def study(patient_id="MRN-0042", study_id="1.2.3"):
    data = dicom_file(ramp(), StudyDate="20200301", StudyTime="1000", ViewPosition="PA")
    return study_from_records(
        [read_dicom(data)],
        [{"kind": "history", "text": "Anna Müller (MRN-0042) coughs", "time": "2020-03-01T09:00:00"}],
        [{"code": "1988-5", "value": 80, "unit": "mg/L", "time": "2020-03-01T08:00:00"}],
        {"age": 97, "sex": "F"},
        study_id=study_id,
        patient_id=patient_id,
    )


def test_nothing_in_a_deidentified_study_names_the_patient():
    whole = study()
    clean = deidentify_study(whole, key=KEY, names=["Müller^Anna"])
    shown = repr(clean)
    for identity in ("0042", "Müller", "Anna", "1.2.3", "2020", whole.images[0].patient_digest, "97"):
        assert identity not in shown.replace(whole.images[0].digest, "")
    assert clean.notes[0].text == "[name] [name] ([id]) coughs"
    assert clean.patient.age == 90
    assert clean.patient_id == pseudonym("MRN-0042", key=KEY)
    assert clean.images[0].patient_digest is None
    assert clean.images[0].study_digest is None


def test_intervals_and_times_of_day_stay_and_days_do_not():
    whole, clean = study(), deidentify_study(study(), key=KEY)
    moved = whole.reference_time - clean.reference_time
    assert moved.days >= 1
    assert moved.seconds == 0
    assert whole.notes[0].time - clean.notes[0].time == moved
    assert whole.observations[0].time - clean.observations[0].time == moved
    assert whole.images[0].acquired - clean.images[0].acquired == moved
    again = deidentify_study(study(study_id="1.2.4"), key=KEY)
    assert again.reference_time == clean.reference_time
    assert again.study_id != clean.study_id
    assert deidentify_study(study("MRN-0043"), key=KEY).reference_time != clean.reference_time


def test_observations_and_pixels_stay():
    whole, clean = study(), deidentify_study(study(), key=KEY)
    assert (clean.images[0].pixels == whole.images[0].pixels).all()
    assert clean.observations[0].value == 80
    assert clean.reference_time < datetime(2020, 3, 1)


def test_study_without_patient_id_is_refused():
    with pytest.raises(InputError, match="patient_id"):
        deidentify_study(study(patient_id=""), key=KEY)
