"""The time of a study."""

from __future__ import annotations

from datetime import timedelta

from hospital.studies.rules.clock_checks import StudyTime, study_time
from tests.hospital.studies.records import NOON, hours, minutes


def test_the_earliest_image_sets_the_time_of_a_study() -> None:
    assert study_time([NOON + minutes(3), None, NOON], NOON + hours(1)) == StudyTime(NOON)


def test_small_differences_of_clocks_are_no_mistake() -> None:
    assert study_time([NOON + minutes(4)], NOON) == StudyTime(NOON + minutes(4))


def test_an_image_from_the_future_is_taken_for_one_of_its_receipt() -> None:
    found = study_time([NOON + hours(2)], NOON)
    assert (found.reference, found.corrected) == (NOON, True)
    assert "the clock of the modality is wrong" in found.warnings[0]


def test_an_image_that_is_days_old_is_warned_of() -> None:
    found = study_time([NOON], NOON + timedelta(days=9, hours=1))
    assert (found.reference, found.corrected) == (NOON, False)
    assert found.warnings == ("the images were made 9 days before they were received",)


def test_images_without_a_time_give_none() -> None:
    found = study_time([None], NOON)
    assert found.reference is None
    assert "no image says when it was made" in found.warnings[0]
