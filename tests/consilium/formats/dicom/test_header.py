import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from consilium.domain.study import Patient, Sex
from consilium.formats.dicom.origin import Origin
from consilium.modalities.image.files.dicom_image import read_dicom
from tests.consilium.formats.dicom.dicom_files import dicom_file, ramp

DISC = np.hypot(*np.mgrid[-60:60, -60:60]) < 40


def of_disc(down=1, across=1, **elements):
    """A disc of which only every so many rows and columns were stored."""
    return read_dicom(dicom_file(np.ascontiguousarray(DISC[::down, ::across] * np.uint8(255)), **elements))


def assert_round(pixels):
    lit = pixels > 32767
    down, across = lit.any(axis=1).sum(), lit.any(axis=0).sum()
    assert down == pytest.approx(across, rel=0.05)
    assert lit.sum() == pytest.approx(np.pi / 4 * down * across, rel=0.05)


@pytest.mark.parametrize(
    "elements",
    [
        {"PixelSpacing": [0.4, 0.2]},
        {"ImagerPixelSpacing": [0.4, 0.2]},
        {"NominalScannedPixelSpacing": [0.4, 0.2]},
        {"PixelAspectRatio": [2, 1]},
        {"PixelSpacing": [0.4, 0.2], "ImagerPixelSpacing": [0.2, 0.2], "PixelAspectRatio": [1, 1]},
        {"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.4, 0.2]},
    ],
)
def test_rows_farther_apart_than_columns_are_resampled(elements):
    image = of_disc(down=2, **elements)
    assert image.shape == (120, 120)
    assert image.grid == (60, 120)
    assert_round(image.pixels)
    assert image.pixel_spacing == (None if "PixelAspectRatio" in elements and len(elements) == 1 else (0.4, 0.2))


def test_columns_farther_apart_than_rows_are_resampled():
    for elements in ({"PixelSpacing": [0.1, 0.3]}, {"PixelAspectRatio": [1, 3]}):
        image = of_disc(across=3, **elements)
        assert image.shape == (120, 120)
        assert image.grid == (120, 40)
        assert_round(image.pixels)


@pytest.mark.parametrize(
    ("elements", "warnings"),
    [
        ({}, 0),
        ({"PixelAspectRatio": [1, 1]}, 0),
        ({"PixelSpacing": [0.2, 0.2], "PixelAspectRatio": [2, 1]}, 0),
        ({"PixelAspectRatio": [0, 1]}, 1),
        ({"PixelAspectRatio": [1000, 1]}, 1),
        ({"PixelSpacing": [0.001, 50]}, 1),
    ],
)
def test_square_pixels_stay_and_impossible_ones_are_warned_of(elements, warnings):
    image = of_disc(**elements)
    np.testing.assert_array_equal(image.pixels, DISC * np.uint16(65535))
    assert len(image.warnings) == warnings


@pytest.mark.parametrize(
    ("elements", "patient"),
    [
        ({"PatientAge": "036Y", "PatientSex": "F"}, Patient(36, Sex.FEMALE)),
        ({"PatientAge": "006M", "PatientSex": "M"}, Patient(0.5, Sex.MALE)),
        ({"PatientSex": "O"}, Patient(None, Sex.OTHER)),
        ({"PatientBirthDate": "19500702", "StudyDate": "20200701"}, Patient(69)),
        ({"PatientBirthDate": "19500701", "StudyDate": "20200701"}, Patient(70)),
        ({"PatientBirthDate": "19500701", "StudyDate": "20200701", "PatientAge": "071Y"}, Patient(71)),
        ({"PatientBirthDate": "19000101", "StudyDate": "20200701"}, Patient()),
        ({"PatientBirthDate": "20200701", "StudyDate": "20200630"}, Patient()),
        ({"PatientBirthDate": "19500701"}, Patient()),
        ({}, Patient()),
    ],
)
def test_age_and_sex(elements, patient):
    image = read_dicom(dicom_file(ramp(), **elements))
    assert image.patient == patient
    assert not image.warnings


def test_age_of_an_infant_from_the_birth_date_is_a_fraction():
    image = read_dicom(dicom_file(ramp(), PatientBirthDate="20200101", StudyDate="20200701"))
    assert image.patient.age == pytest.approx(0.5, abs=0.01)


def test_malformed_age_and_sex_are_refused_without_their_values():
    image = read_dicom(dicom_file(ramp(), PatientAge="ANNA", PatientSex="MEIER"))
    assert image.patient == Patient()
    assert [warning.partition(" ")[0] for warning in image.warnings] == ["PatientAge", "PatientSex"]
    assert "ANNA" not in str(image.warnings)


def region(value, meaning):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return {"AnatomicRegionSequence": Sequence([item])}


@pytest.mark.parametrize(
    ("elements", "origin"),
    [
        ({"Modality": "CT", "BodyPartExamined": "KNEE"}, Origin("CT", "KNEE")),
        ({"Modality": "dx ", "BodyPartExamined": "Thorax"}, Origin("DX", "CHEST")),
        ({"Modality": "DX", "BodyPartExamined": "LOWER_LEG"}, Origin("DX", "LOWER LEG")),
        (region("51185008", "Thorakale Struktur"), Origin("", "CHEST")),
        (region("72696002", "Knee"), Origin("", "KNEE")),
        ({"BodyPartExamined": "Müller, Anna (geb. 1950)"}, Origin()),
        ({"PresentationIntentType": "FOR PROCESSING"}, Origin(for_processing=True)),
        ({"PresentationIntentType": "FOR PRESENTATION"}, Origin()),
        ({"SOPClassUID": uid.DigitalXRayImageStorageForProcessing}, Origin(for_processing=True)),
        ({}, Origin()),
    ],
)
def test_origin(elements, origin):
    assert read_dicom(dicom_file(ramp(), **elements)).origin == origin
