from datetime import timedelta

import numpy as np
import pytest

from consilium.domain.errors import InputError
from consilium.domain.study import Patient, Record, Sex, Study, Window
from consilium.formats.square_pixels import is_constant
from consilium.modalities.image.image_record import Image
from consilium.modalities.registry import in_order, nonempty_subsets, subset_key
from consilium.modalities.text.note import Note, NoteKind
from tests.consilium.tiny import NOON, THREE, tiny_study


def _image(**identity: str) -> Image:
    return Image(np.zeros((4, 4), np.uint16), "0" * 64, "dicom", **identity)


@pytest.mark.parametrize("identity", ["patient_digest", "study_digest"])
def test_images_of_two_patients_or_studies_are_refused(identity: str) -> None:
    with pytest.raises(InputError, match="must all be of one"):
        Study({"image": (_image(**{identity: "a"}), _image(**{identity: "b"}))})
    Study({"image": (_image(**{identity: "a"}), _image(**{identity: "a"}), _image())})


def test_the_reference_time_is_the_earliest_image_unless_given() -> None:
    early, late = (Image(np.zeros((4, 4), np.uint16), "0", "png", acquired=NOON + timedelta(hours=h)) for h in (0, 3))
    assert Study({"image": (late, early)}).reference_time == NOON
    given = NOON - timedelta(days=1)
    assert Study({"image": (late,)}, reference_time=given).reference_time == given


def test_records_outside_the_window_are_left_out_with_a_warning_each() -> None:
    def note(hours: float) -> Note:
        return Note(NoteKind.HISTORY, f"{hours}", NOON + timedelta(hours=hours))

    study = Study(
        {"text": (note(-80), note(-72), note(0), note(0.1), Note(NoteKind.HISTORY, "timeless"))}, reference_time=NOON
    )
    inside = study.within(Window(before_hours=72, after_hours=0))
    assert [n.text for n in inside.parts["text"]] == ["-72", "0", "timeless"]
    assert len(inside.warnings) == 2
    assert "before" in inside.warnings[0]
    assert "after" in inside.warnings[1]


def test_without_a_reference_time_nothing_is_late() -> None:
    study = Study({"text": (Note(NoteKind.HISTORY, "x", NOON),)})
    assert study.within(Window()) is study


@pytest.mark.parametrize("age", [-1, 131])
def test_impossible_ages_are_refused(age: float) -> None:
    with pytest.raises(InputError, match=r"patient\.age"):
        Patient(age)


def test_subsets_come_smallest_first_and_have_one_name() -> None:
    subsets = nonempty_subsets(["observations", "image"])
    assert [subset_key(s) for s in subsets] == ["image", "observations", "image+observations"]
    assert len(nonempty_subsets(THREE)) == 7
    assert subset_key([]) == "none"
    for name_of in (subset_key, in_order, nonempty_subsets):
        with pytest.raises(InputError, match=r"modality: got 'genome', must be one of image, text, observations"):
            name_of(["image", "genome"])


def test_digests_change_with_what_was_sent() -> None:
    first, same, other = (tiny_study(n).input_digests() for n in (1, 1, 2))
    assert first == same
    assert all(first[key] != other[key] for key in first)
    assert set(first) == {"images[0]", "notes[0]", "observations"}


def _of(age: float | None = None, sex: Sex = Sex.UNKNOWN) -> Image:
    return Image(np.zeros((4, 4), np.uint16), "0" * 64, "dicom", patient=Patient(age, sex))


@pytest.mark.parametrize(
    ("record", "files", "expected"),
    [
        (Patient(), [_of(36, Sex.FEMALE)], Patient(36, Sex.FEMALE)),
        (Patient(), [_of(), _of(36), _of(37, Sex.MALE)], Patient(36, Sex.MALE)),
        (Patient(0.0), [_of(1, Sex.MALE)], Patient(0.0, Sex.MALE)),
        (Patient(70, Sex.MALE), [_of(36, Sex.FEMALE)], Patient(70, Sex.MALE)),
        (Patient(), [_of(36, Sex.FEMALE), _of(70, Sex.FEMALE)], Patient(None, Sex.FEMALE)),
        (Patient(), [_of(36, Sex.FEMALE), _of(36, Sex.MALE)], Patient(36)),
    ],
)
def test_age_and_sex_come_from_the_files_where_the_record_has_none(
    record: Patient, files: list[Image], expected: Patient
) -> None:
    assert Study({"image": tuple(files)}, patient=record).patient == expected


def test_files_that_contradict_the_record_or_each_other_are_named() -> None:
    woman, man = _of(36, Sex.FEMALE), _of(70, Sex.MALE)
    assert Study({"image": (_of(), woman)}, patient=Patient(70, Sex.MALE)).contradictions == (
        "images[1] gives the patient's age as 36, the record as 70",
        "images[1] gives the patient's sex as F, the record as M",
    )
    assert Study({"image": (woman, man)}).contradictions == (
        "images[1] gives the patient's age as 70, images[0] as 36",
        "images[1] gives the patient's sex as M, images[0] as F",
    )
    assert Study({"image": (woman, _of(36, Sex.FEMALE))}, patient=Patient(37.9)).contradictions == ()
    assert Study({"image": (woman,)}).contradictions == ()


def test_one_pixel_of_another_grey_is_enough() -> None:
    pixels = np.full((300, 400), 7, np.uint16)
    assert is_constant(pixels)
    pixels[123, 45] = 8
    assert not is_constant(pixels)
    assert is_constant(pixels[:1, :1])


def test_a_record_s_time_is_moved_by_the_field_that_it_names() -> None:
    later = NOON + timedelta(days=1)
    image = Image(np.zeros((4, 4), np.uint16), "0", "png", acquired=NOON)

    assert Note(NoteKind.HISTORY, "fever", NOON).with_time(later) == Note(NoteKind.HISTORY, "fever", later)
    assert image.with_time(later).acquired == later


def test_a_record_whose_time_cannot_be_moved_is_never_taken_for_moved() -> None:
    class Elsewhere(Record):
        time = NOON

    class Timeless(Record):
        pass

    timeless = Timeless()
    assert timeless.with_time(NOON) is timeless
    with pytest.raises(TypeError, match="Elsewhere must derive with_time"):
        Elsewhere().with_time(NOON + timedelta(days=1))
