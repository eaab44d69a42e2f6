from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from consilium.configuration.modality_sections import Scope
from consilium.domain.study import Patient, RecordFile, Sex
from consilium.domain.variables import BUILT_IN
from consilium.modalities.image.image_record import Image, ViewPosition
from consilium.modalities.observations.observation import Observation
from consilium.modalities.text.note import Note, NoteKind
from tests.consilium.formats.dicom.dicom_files import dicom_file, ramp
from tests.training.audit.made import made_cached, made_cohort
from training.audit.provenance import _joined, origin_groups, provenance
from training.training_side import training_sides

NOON = datetime(2021, 3, 4, 12, tzinfo=UTC)


def crp(time=None, implausible=False):
    return Observation("crp", BUILT_IN["crp"].code, 5.0, 5.0, "mg/L", time, implausible)


def features(cohort, studies=None, squares=None, refused=None):
    return provenance(made_cached(cohort, studies, squares, refused), Scope())


def test_records_without_images_tell_source_date_notes_and_fields():
    cohort = made_cohort(
        [1, 0, 1],
        source=["north", "south", None],
        date=["2019", "2021-03-04", "spring of 2020"],
        reference_time=[None, None, NOON],
        notes=[(Note(NoteKind.HISTORY, "old cough"), Note(NoteKind.INDICATION, "pain")), (), ()],
        observations=[(), (crp(),), ()],
        patient=[Patient(50.0, Sex.FEMALE), Patient(60.0), Patient()],
    )
    found = features(cohort)
    assert list(found) == ["source", "date", "missingness", "notes"]
    source = found["source"].source
    assert source[0] != source[1]
    assert source.isna().tolist() == [False, False, True]
    date = found["date"]
    assert date.year.tolist() == [2019, 2021, 2020]
    thursday = 3
    assert date.weekday[1:].tolist() == [thursday, thursday]
    assert np.isnan(date.day[0])
    assert date.hour.tolist()[1:] == [0, 12]
    assert found["notes"].to_dict("list") == {"notes": [2, 0, 0], "characters": [13, 0, 0], "words": [3, 0, 0]}
    filled = found["missingness"]
    assert filled.age.tolist() == [1, 1, 0]
    assert filled.sex.tolist() == [1, 0, 0]
    assert filled.source.tolist() == [1, 1, 0]
    assert filled.value_crp.tolist() == [0, 1, 0]
    assert filled.note_history.tolist() == [1, 0, 0]
    assert "value_sodium" not in filled, "nobody's sodium is known: that tells nothing"


def test_what_a_model_may_not_read_is_not_there():
    late = datetime(2021, 3, 5, 12, tzinfo=UTC)
    cohort = made_cohort(
        [1, 0, 1, 0],
        reference_time=[NOON] * 4,
        notes=[
            (Note(NoteKind.HISTORY, "pain"),),
            (Note(NoteKind.IMPRESSION, "clear lungs"),),
            (Note(NoteKind.HISTORY, "pain", late),),
            (),
        ],
        observations=[(crp(NOON),), (crp(late),), (crp(NOON, implausible=True),), ()],
    )
    found = features(cohort)
    assert found["notes"].notes.tolist() == [1, 0, 0, 0]
    assert found["missingness"].value_crp.tolist() == [1, 0, 0, 0]


def test_no_name_is_in_the_tables_and_rare_ones_are_one():
    names = [f"site {number}" for number in range(150)] + ["site 3"] * 2
    source = features(made_cohort([1, 0] * 76, source=names))["source"].source
    assert source.nunique() == 101
    assert source[3] == source[150]
    assert source[149] == source[120] != source[3], "those who come last of equally rare names"
    assert all(isinstance(name, int | np.integer) for name in source)


def write_images(tmp_path):
    """A DICOM file, a JPEG, and a study without any."""
    dcm, jpg = tmp_path / "a.dcm", tmp_path / "b.jpg"
    dcm.write_bytes(dicom_file(ramp(), Manufacturer="Aurora", InstitutionName="North"))
    Pillow.fromarray(np.full((80, 40), 9, np.uint8)).save(jpg, quality=30)
    cohort = made_cohort(
        [1, 0, 1], root=tmp_path, images=[(RecordFile("images", dcm),), (RecordFile("images", jpg),), ()]
    )
    portrait = np.zeros((64, 64), np.uint16)
    portrait[:10, 16:20] = 65535  # the image lies in columns 16 to 47
    squares = {"a": np.zeros((64, 64), np.uint16), "b": portrait}
    images = [
        Image(np.zeros((48, 64), np.uint16), "a", "dicom", ViewPosition.PA, "L", (0.2, 0.2), burned_in=True),
        Image(np.zeros((80, 40), np.uint16), "b", "jpeg", ViewPosition.AP),
    ]
    studies = [record.study({"image": images[row : row + 1]}) for row, record in enumerate(cohort.records)]
    return cohort, studies, squares, (dcm, jpg)


def test_images_tell_device_format_size_compression_markers_and_view(tmp_path):
    cohort, studies, squares, (dcm, jpg) = write_images(tmp_path)
    found = features(cohort, studies, squares)
    others = {"notes", "date", "recording", "volume_format", "volume_size", "volume_scale"}
    assert set(found) == set(origin_groups()) - others
    assert found["source"].institution.isna().tolist() == [False, True, True]
    assert found["device"].device_0.isna().tolist() == [False, True, True]
    for group, column in (("format", "source"), ("format", "encoding"), ("view", "view")):
        names = found[group][column]
        assert names.nunique() == 2
        assert names.isna().tolist() == [False, False, True]
    size = found["size"]
    assert size["rows"][:2].tolist() == [48, 80]
    assert size["columns"][:2].tolist() == [64, 40]
    assert size.has_spacing[:2].tolist() == [1, 0]
    assert size.spacing[0] == 0.2
    bits = found["compression"].bits_per_pixel
    assert bits[0] == round(8 * dcm.stat().st_size / (48 * 64), 1)
    assert bits[1] == round(8 * jpg.stat().st_size / (80 * 40), 1)
    markers = found["markers"]
    assert markers.burned_in[0] == 1
    assert np.isnan(markers.burned_in[1])
    upper_left = markers.corner_1[1]
    assert upper_left == round(10 * 4 / (10 * 5), 3), "in the corner of the image, not of the square"
    assert not markers[["corner_2", "corner_3", "corner_4"]][:2].to_numpy().any()
    assert found["missingness"].images.tolist() == [1, 1, 0]


def test_a_refused_file_does_not_speak_for_its_study(tmp_path):
    _, studies, squares, (dcm, jpg) = write_images(tmp_path)
    both = made_cohort(
        [1, 0],
        root=tmp_path,
        images=[(RecordFile("images", dcm), RecordFile("images", jpg)), (RecordFile("images", dcm),)],
    )
    seen = [
        both.records[0].study({"image": studies[1].parts["image"]}),
        both.records[1].study({"image": studies[0].parts["image"]}),
    ]
    found = features(both, seen, squares, {"a.dcm": "must be decodable"})
    assert "device" not in found, "nothing is known of the device of the JPEG"
    assert found["compression"].bits_per_pixel[0] == round(8 * jpg.stat().st_size / (80 * 40), 1)


def test_every_table_has_a_row_a_study_in_types_that_boosting_reads(tmp_path):
    cohort, studies, squares, _ = write_images(tmp_path)
    for table in features(cohort, studies, squares).values():
        assert len(table) == 3
        for column in table:
            assert isinstance(table[column].dtype, pd.CategoricalDtype) or table[column].dtype == np.float64


def test_no_modality_takes_the_place_of_what_another_one_says():
    declared = [name for side in training_sides() for name in side.origin_groups]
    assert len(declared) == len(set(declared))
    with pytest.raises(ValueError, match="two modalities give source of format"):
        _joined("format", {"source": "dicom"}, {"source": None})
