from datetime import UTC, datetime

import pytest

from consilium.domain.errors import InputError, UnreadableImage
from consilium.ingest.deidentify import deidentify_study, names_in_dicom, pseudonym
from consilium.ingest.study_records import study_from_records
from consilium.modalities.image.files.dicom_image import read_dicom
from tests.consilium.formats.dicom.dicom_files import dicom_file, ramp

KEY = b"a secret of the hospital"


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
    origin = {"AccessionNumber": "A-17", "Manufacturer": "Acme", "InstitutionName": "St. Elsewhere"}
    data = dicom_file(ramp(), StudyDate="20200301", StudyTime="1000", ViewPosition="PA", **origin)
    return study_from_records(
        images=[read_dicom(data)],
        notes=[{"kind": "history", "text": "Anna Müller (MRN-0042) coughs", "time": "2020-03-01T09:00:00"}],
        observations=[{"code": "1988-5", "value": 80, "unit": "mg/L", "time": "2020-03-01T08:00:00"}],
        patient={"age": 97, "sex": "F"},
        study_id=study_id,
        patient_id=patient_id,
    )


def test_nothing_in_a_deidentified_study_names_the_patient():
    whole = study()
    clean = deidentify_study(whole, key=KEY, names=["Müller^Anna"])
    shown = repr(clean)
    for identity in ("0042", "Müller", "Anna", "1.2.3", "2020", whole.parts["image"][0].patient_digest, "97"):
        assert identity not in shown.replace(whole.parts["image"][0].digest, "")
    assert clean.parts["text"][0].text == "[name] ([id]) coughs"
    assert clean.patient.age == 90
    assert clean.patient_id == pseudonym("MRN-0042", key=KEY)
    assert clean.parts["image"][0].patient_digest is None
    assert clean.parts["image"][0].study_digest is None
    for whence in ("accession_digest", "device_digest", "site_digest"):
        assert getattr(whole.parts["image"][0], whence) is not None
        assert getattr(clean.parts["image"][0], whence) is None


def test_intervals_and_times_of_day_stay_and_days_do_not():
    whole, clean = study(), deidentify_study(study(), key=KEY)
    moved = whole.reference_time - clean.reference_time
    assert moved.days >= 1
    assert moved.seconds == 0
    assert whole.parts["text"][0].time - clean.parts["text"][0].time == moved
    assert whole.parts["observations"][0].time - clean.parts["observations"][0].time == moved
    assert whole.parts["image"][0].acquired - clean.parts["image"][0].acquired == moved
    again = deidentify_study(study(study_id="1.2.4"), key=KEY)
    assert again.reference_time == clean.reference_time
    assert again.study_id != clean.study_id
    assert deidentify_study(study("MRN-0043"), key=KEY).reference_time != clean.reference_time


def test_observations_and_pixels_stay():
    whole, clean = study(), deidentify_study(study(), key=KEY)
    assert (clean.parts["image"][0].pixels == whole.parts["image"][0].pixels).all()
    assert clean.parts["observations"][0].value == 80
    assert clean.reference_time < datetime(2020, 3, 1, tzinfo=UTC)


def test_study_without_patient_id_is_refused():
    with pytest.raises(InputError, match="patient_id"):
        deidentify_study(study(patient_id=""), key=KEY)
