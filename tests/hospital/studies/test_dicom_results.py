"""Results of a study as DICOM objects."""

from __future__ import annotations

import copy
from dataclasses import replace
from io import BytesIO
from zoneinfo import ZoneInfo

import pydicom
import pytest

from consilium.api.schemas import ExplanationAnswer
from consilium.formats.dicom.own_objects import is_own_object
from consilium.formats.time_zone import TimeZone
from hospital.store.state import Revision
from hospital.studies.answered_study import AnsweredStudy
from hospital.studies.dicom_results import DicomResults
from service.app import openapi_examples as examples
from tests.hospital.dicom.samples import part10, radiograph
from tests.hospital.studies.records import NOON, ORDER, WARD, instance


def explained() -> ExplanationAnswer:
    """The documentation's example, whose picture is none."""
    answer = copy.deepcopy(examples.EXPLANATION)
    for finding in answer["explanations"]:
        finding["parts"].pop("image", None)
    return ExplanationAnswer.model_validate(answer)


ANSWER = explained()


def answered(number: int = 1, previous: Revision | None = None) -> AnsweredStudy:
    image = radiograph(1, side=96)
    revision = Revision(f"{number}" * 64, image.StudyInstanceUID, number, NOON, {}, ANSWER.model_dump_json().encode())
    return AnsweredStudy(revision, ANSWER, WARD, ORDER, (instance(),), (part10(image),), (), {}, previous, ("pacs",))


def read(content: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(BytesIO(content))


def test_each_delivery_has_the_uid_of_its_object_as_its_key() -> None:
    study = answered()
    report, capture = DicomResults(study, TimeZone("UTC")).deliveries("pacs", ("sr", "sc"))
    assert [(one.destination, one.kind, one.study) for one in (report, capture)] == [
        ("pacs", "sr", study.study),
        ("pacs", "sc", study.study),
    ]
    for delivery in (report, capture):
        made = read(delivery.content)
        assert made.SOPInstanceUID == delivery.key
        assert made.StudyInstanceUID == study.study
        assert (made.PatientID, made.AccessionNumber) == ("P-A", "ACC-A")
        assert is_own_object(made)


def test_made_again_the_objects_have_the_same_uids_and_two_destinations_share_them() -> None:
    results = DicomResults(answered(), TimeZone("UTC"))
    keys = [one.key for one in results.deliveries("pacs", ("sr", "sc"))]
    assert [one.key for one in results.deliveries("other", ("sr", "sc"))] == keys
    assert [one.key for one in DicomResults(answered(), TimeZone("UTC")).deliveries("pacs", ("sr", "sc"))] == keys


def test_where_the_images_name_no_offset_results_are_dated_by_the_clocks_of_the_site() -> None:
    image = radiograph(1, side=96)
    del image.TimezoneOffsetFromUTC
    study = replace(answered(), files=(part10(image),))
    for delivery in DicomResults(study, TimeZone("Asia/Tokyo")).deliveries("pacs", ("sr", "sc")):
        made = read(delivery.content)
        assert "TimezoneOffsetFromUTC" not in made
        shown = study.created.astimezone(ZoneInfo("Asia/Tokyo"))
        assert (made.ContentDate, made.ContentTime[:6]) == (f"{shown:%Y%m%d}", f"{shown:%H%M%S}")


def test_a_later_revision_names_the_report_that_it_replaces() -> None:
    first = answered(1)
    (former,) = DicomResults(first, TimeZone("UTC")).deliveries("pacs", ("sr",))
    (later,) = DicomResults(answered(2, first.revision), TimeZone("UTC")).deliveries("pacs", ("sr",))
    report = read(later.content)
    (study,) = report.PredecessorDocumentsSequence
    named = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert named == former.key != later.key
    assert int(report.InstanceNumber) == 2


@pytest.mark.parametrize("kinds", [(), ("sr",)])
def test_only_what_a_destination_takes_is_made(kinds: tuple[str, ...]) -> None:
    assert tuple(one.kind for one in DicomResults(answered(), TimeZone("UTC")).deliveries("pacs", kinds)) == kinds
