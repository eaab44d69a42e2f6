from datetime import UTC, datetime

import numpy as np
import pytest

from consilium.domain.errors import InputError, TooLarge
from consilium.domain.study import Patient, Sex, Window
from consilium.ingest.study_records import read_patient, study_from_records
from consilium.modalities.image.files.dicom_image import read_dicom
from tests.consilium.formats.dicom.dicom_files import dicom_file, ramp

NOTE = {"kind": "history", "text": "cough", "time": "2020-03-01T09:00:00"}
LATE = {"code": "1988-5", "value": 80, "unit": "mg/L", "time": "2020-03-01T12:00:00"}
EARLY = {"code": "6690-2", "value": 12, "unit": "10*9/L", "time": "2020-03-01T08:00:00"}


def image(**elements):
    elements = {"ViewPosition": "PA", "StudyDate": "20200301", "StudyTime": "1000"} | elements
    return read_dicom(dicom_file(ramp(), **elements))


def test_study_of_all_records():
    study = study_from_records(
        images=[image()],
        notes=[NOTE],
        observations=[EARLY, LATE],
        patient={"age": 64, "sex": "F"},
        study_id="s1",
        patient_id="p1",
    )
    assert study.reference_time == datetime(2020, 3, 1, 10, tzinfo=UTC)
    assert study.patient == Patient(64.0, Sex.FEMALE)
    assert (study.study_id, study.patient_id) == ("s1", "p1")
    assert not study.warnings
    inside = study.within(Window())
    assert [observation.variable for observation in inside.parts["observations"]] == ["wbc"]
    assert len(inside.warnings) == 1


def test_any_one_modality_will_do():
    assert study_from_records(images=[image()]).parts["image"]
    assert study_from_records(notes=[NOTE]).parts["text"]
    assert study_from_records(observations=[EARLY]).parts["observations"]


@pytest.mark.parametrize(
    "observations",
    [[], [{"code": "10838-1", "value": 1, "unit": "ng/mL"}], [{"code": "2823-3", "value": 99, "unit": "mmol/L"}]],
)
def test_study_without_a_usable_record_is_refused(observations):
    with pytest.raises(InputError, match="must hold an image, a note, an observation, an ECG, a volume or a sound"):
        study_from_records(observations=observations, patient={"age": 50})


def test_images_of_two_patients_are_refused():
    with pytest.raises(InputError, match="must all be of one patient"):
        study_from_records(images=[image(), image(PatientID="MRN-0043")])


def test_reference_time_given_wins_over_the_image():
    assert study_from_records(images=[image()], reference_time="2020-03-01T11:00:00").reference_time.hour == 11
    with pytest.raises(InputError, match="reference_time"):
        study_from_records(images=[image()], reference_time="eleven")


def test_what_the_reader_should_know_is_warned_of():
    blank = read_dicom(dicom_file(np.zeros((4, 4), np.uint16), BurnedInAnnotation="YES"))
    study = study_from_records(images=[image(), blank, blank], notes=[NOTE], observations=[EARLY | {"value": 4000}])
    assert study.warnings == (
        "images[1]: view position unknown",
        "images[1]: the file says that text is burned into the image",
        "images[1]: the image is blank",
        "images[2]: view position unknown",
        "images[2]: the file says that text is burned into the image",
        "images[2]: the image is blank",
        "images[2]: the same file as images[1]",
        "observations[0] not used: implausible value (White cell count)",
    )


def test_without_a_reference_time_late_records_are_not_detected():
    assert "no reference time" in study_from_records(notes=[NOTE]).warnings[-1]
    assert not study_from_records(notes=[{"kind": "history", "text": "cough"}]).warnings


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, Patient()),
        ({}, Patient()),
        ({"age": 0.5, "sex": "male"}, Patient(0.5, Sex.MALE)),
        ({"age": None, "sex": "U"}, Patient(None, Sex.UNKNOWN)),
    ],
)
def test_patient(raw, expected):
    assert read_patient(raw) == (expected, (), ())


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({"age": "64 x"}, "patient.age"),
        ({"age": True}, "patient.age"),
        ({"age": -1}, "patient.age"),
        ({"age": float("nan")}, "patient.age"),
        ({"age": 131}, "patient.age"),
        ({"sex": "H"}, "patient.sex"),
        ({"gender": "F"}, "patient"),
        ([64], "patient"),
    ],
)
def test_patient_that_is_refused(raw, field):
    with pytest.raises(InputError) as refused:
        read_patient(raw)
    assert refused.value.field == field


def test_names_are_given_for_the_notes_and_shown_nowhere():
    image = read_dicom(dicom_file(ramp(), PatientID="MRN-0042"))
    assert image.names == ("Müller^Anna", "MRN-0042")
    study = study_from_records(images=[image], patient={"age": 50, "names": ["Roe^Jane"]}, patient_id="p-1")
    assert study.known_names == ("Roe^Jane", "Müller^Anna", "MRN-0042", "p-1")
    assert "Roe" not in repr(study)
    assert "Müller" not in repr(study)
    for names in ("Roe", [5], ["x" * 201]):
        with pytest.raises(InputError, match=r"patient\.names"):
            study_from_records(images=[image], patient={"names": names})
    with pytest.raises(TooLarge, match=r"patient\.names"):
        study_from_records(images=[image], patient={"names": ["x"] * 33})
