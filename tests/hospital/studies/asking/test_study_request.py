"""What the service is asked, and which questions are the same."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import pytest

from consilium.api.schemas import ExplainRequest
from consilium.domain.study import Sex
from hospital.studies.asking.study_request import StudyRequest, study_request
from hospital.studies.rules.clock_checks import StudyTime
from hospital.studies.rules.matching import MatchedRecords
from hospital.studies.rules.revision_digest import idempotency_key, revision_digest
from tests.hospital.studies.records import CRP, NOON, READS, hours, instance, minutes, note, observation, order

WHEN = StudyTime(NOON)


def request(images: int = 2, **matched: object) -> StudyRequest:
    return study_request([instance(number + 1) for number in range(images)], MatchedRecords(**matched), WHEN, READS)  # type: ignore[arg-type]


def test_a_request_holds_what_belongs_to_the_study() -> None:
    asked = request(observations=(observation(),), notes=(note(),), orders=(order(),))
    assert [image.file for image in asked.images] == ["file1", "file2"]
    assert asked.json == {
        "observations": [{"code": CRP, "value": 112.0, "unit": "mg/L", "time": "2024-03-05T10:00:00+00:00"}],
        "notes": [
            {"kind": "history", "text": "Cough for two weeks.", "time": "2024-03-05T11:00:00+00:00"},
            {"kind": "indication", "text": "Pneumonia?", "time": "2024-03-05T09:00:00+00:00"},
        ],
        "patient": {"names": ["4711", "A1"]},
    }
    ExplainRequest.model_validate(asked.json)


def test_the_record_gives_age_and_sex_where_no_image_does() -> None:
    registered = {"birth_date": date(1950, 3, 6), "sex": Sex.FEMALE}
    asked = request(**registered)
    assert asked.records["patient"] == {"age": 73.0, "sex": "F"}
    told = study_request([instance(age=70.0, sex=Sex.FEMALE)], MatchedRecords(**registered), WHEN, READS)  # type: ignore[arg-type]
    assert "patient" not in told.records


def test_an_order_of_after_the_image_gives_no_indication_and_an_old_one_no_time() -> None:
    assert "notes" not in request(orders=(order(time=NOON + minutes(1)),)).records
    old = request(orders=(order(time=NOON - hours(24 * 30)),))
    assert old.records["notes"] == [{"kind": "indication", "text": "Pneumonia?"}]


def test_a_corrected_time_is_sent() -> None:
    asked = study_request([instance()], MatchedRecords(), StudyTime(NOON, corrected=True, warnings=("clock",)), READS)
    assert asked.records == {"reference_time": "2024-03-05T12:00:00+00:00"}
    assert asked.warnings == ("clock",)


def test_more_images_than_a_request_may_hold_are_cut_to_the_earliest() -> None:
    images = [instance(number, acquired=NOON - minutes(number)) for number in range(1, 4)]
    asked = study_request(images, MatchedRecords(), WHEN, replace(READS, images=2))
    assert [image.file for image in asked.images] == ["file3", "file2"]
    assert asked.warnings == ("3 images: the model was given the first 2",)


def revision(asked: StudyRequest, model: str = READS.digest) -> str:
    return revision_digest(asked.sources(model))


def test_the_same_records_are_the_same_revision_in_whatever_order() -> None:
    matched = MatchedRecords(observations=(observation(),))
    one = revision(request(observations=(observation(),)))
    again = study_request([instance(2, received=NOON + hours(5)), instance(1)], matched, WHEN, READS)
    assert one == revision(again)
    others = [
        revision(request(observations=(observation(113.0),))),
        revision(request(observations=())),
        revision(request(3, observations=(observation(),))),
        revision(study_request([instance(1), instance(2, "new")], matched, WHEN, READS)),
        revision(request(observations=(observation(),)), "1" * 64),
    ]
    assert len({one, *others}) == 6


def test_the_sources_of_a_revision_hold_no_text_and_no_value() -> None:
    sources = json.dumps(request(observations=(observation(),), notes=(note(),)).sources(READS.digest))
    assert "Cough" not in sources
    assert "112" not in sources
    assert instance(1).sop_instance in sources


def test_an_idempotency_key_names_the_attempt() -> None:
    keys = {idempotency_key("a" * 64, refused, attempt) for refused in (0, 1) for attempt in (0, 1)}
    assert len(keys) == 4
    assert max(map(len, keys)) <= 255


@pytest.mark.parametrize(
    ("field", "kept"),
    [("images[0].PixelData", (1, 1, 1)), ("observations[0].unit", (2, 0, 1)), ("notes[0].text", (2, 1, 0))],
)
def test_a_refused_record_is_left_out_with_a_warning(field: str, kept: tuple[int, int, int]) -> None:
    asked = request(observations=(observation(),), notes=(note(),)).without(field, "must be readable")
    assert asked is not None
    assert (len(asked.images), *(len(asked.records.get(name, ())) for name in ("observations", "notes"))) == kept
    assert asked.warnings[0].endswith(f"left out, the service refused it: {field.split('.')[1]} must be readable")


@pytest.mark.parametrize("field", ["patient.age", "images[7]", "study", "request"])
def test_a_refusal_that_names_no_record_cannot_be_helped(field: str) -> None:
    assert request().without(field, "must be") is None
