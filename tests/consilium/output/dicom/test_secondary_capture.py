from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread

from consilium.domain.errors import UnsupportedMedia
from consilium.modalities.image.files.dicom_image import read_dicom
from consilium.modalities.image.image_record import Image
from consilium.modalities.presentation import AGAINST, FOR
from consilium.output.dicom.capture_picture import displayable, shows
from consilium.output.dicom.marks import file_bytes
from consilium.output.dicom.secondary_capture import most_notable, secondary_capture
from tests.consilium.output.dicom.results import image_file, result_of
from tests.consilium.tiny_answer import eventful_explanation, explained_study, explanation, open_explanation


def captured(explained=None, study=None, *files):
    explained = explained or explanation()
    return secondary_capture(result_of(explained, *files), study or explained_study(), explained)


def pixels_of(capture) -> np.ndarray:
    return dcmread(BytesIO(file_bytes(capture))).pixel_array


def test_capture_belongs_to_the_study_and_says_that_it_names_the_patient():
    capture = captured()
    assert (capture.StudyInstanceUID, capture.Modality, capture.ConversionType) == ("1.2.3", "OT", "WSD")
    assert (capture.BurnedInAnnotation, list(capture.ImageType)) == ("YES", ["DERIVED", "SECONDARY"])
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4"
    assert capture.SeriesDescription == "AI findings. Not for primary diagnosis"


def test_image_is_shown_in_the_greys_of_the_reading_where_there_is_no_evidence():
    plain = replace(explanation(), findings=())
    shown = pixels_of(captured(plain))
    assert tuple(shown[shown.shape[0] // 2, 480]) == (30000 >> 8,) * 3


def test_evidence_for_is_orange_below_and_against_blue_above():
    shown = pixels_of(captured()).astype(int)
    top, bottom = 100 + (960 - 640) // 2, 80 + (960 + 640) // 2
    above, below = shown[top, 500], shown[bottom - 20, 500]
    assert above[2] - above[0] > 30
    assert below[0] - below[2] > 30
    assert (np.array(FOR) == shown.reshape(-1, 3)).all(axis=1).any()
    assert (np.array(AGAINST) == shown.reshape(-1, 3)).all(axis=1).any()


def test_called_finding_is_the_one_whose_evidence_is_shown():
    shown = most_notable(explanation())
    assert shown is not None
    assert shown.finding == "b"
    assert most_notable(replace(explanation(), findings=())) is None


def test_another_overlay_is_another_object_of_the_same_series():
    whole, alpha = captured(), captured(replace(explanation(), findings=explanation().findings[:1]))
    assert whole.SOPInstanceUID != alpha.SOPInstanceUID
    assert whole.SeriesInstanceUID == alpha.SeriesInstanceUID
    assert file_bytes(captured()) == file_bytes(captured())


def test_referral_shifts_everything_below_it():
    assert not np.array_equal(pixels_of(captured()), pixels_of(captured(eventful_explanation(), None)))
    assert not np.array_equal(pixels_of(captured()), pixels_of(captured(open_explanation(), None)))


def test_picture_grows_with_what_it_has_to_say():
    many = tuple(
        replace(explanation().diagnosis.findings[0], finding=f"f{i}", display=f"Finding {i}") for i in range(30)
    )
    small, large = captured(), captured(replace(explanation(findings=many), findings=()))
    assert large.Rows > small.Rows + 600
    assert large.Columns == small.Columns


def test_several_images_stand_side_by_side():
    white = Image(np.full((40, 60), 65535, np.uint16), "cd" * 32, "dicom")
    study = explained_study().with_parts(image=(*explained_study().parts["image"], white))
    plain = replace(explanation(), findings=())
    shown = pixels_of(captured(plain, study, image_file(), image_file(SOPInstanceUID="1.2.3.5")))
    row = shown[80 + 237, :, 0]
    assert (row[100], row[700]) == (30000 >> 8, 255)


@pytest.mark.parametrize("name", ["Müller-Łukasz", "Ærøskøbing", "Παπαδόπουλος", "Жуковский", "Nguyễn"])
def test_names_of_european_and_vietnamese_letters_are_shown(name):
    assert shows(name)


def test_letters_that_the_font_lacks_are_seen_to_be_missing():
    assert displayable("A山") == "A\N{REPLACEMENT CHARACTER}"


def test_own_capture_is_never_read_as_an_image_of_a_study():
    with pytest.raises(UnsupportedMedia, match=r"images\[0\].Manufacturer: got 'Consilium', must be a record"):
        read_dicom(file_bytes(captured()), field="images[0]")


@pytest.mark.parametrize(
    "keyword", ["Manufacturer", "SecondaryCaptureDeviceManufacturer", "ContributingEquipmentSequence"]
)
def test_own_capture_is_recognised_by_each_of_its_marks_alone(keyword):
    capture = dcmread(BytesIO(file_bytes(captured())))
    for other in {"Manufacturer", "SecondaryCaptureDeviceManufacturer", "ContributingEquipmentSequence"} - {keyword}:
        delattr(capture, other)
    buffer = BytesIO()
    capture.save_as(buffer)
    with pytest.raises(UnsupportedMedia, match="not a result of this software"):
        read_dicom(buffer.getvalue())
