"""Notices of modalities and archives, sent by pynetdicom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from hospital.dicom.storage_classes import AVAILABILITY, PROCEDURE_STEP
from hospital.store.received import ReceivedStep, StoreFull
from tests.hospital.dicom.listening import NOW, Listening, listening
from tests.hospital.dicom.samples import uid

STEP, STUDY = uid("step"), uid("study", "A")


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listening]:
    with listening(tmp_path) as running:
        yield running


def _referenced(*instances: str, **elements: str) -> list[Dataset]:
    references = []
    for instance in instances:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", instance
        for keyword, value in elements.items():
            setattr(reference, keyword, value)
        references.append(reference)
    return references


def _begun(study: str = STUDY) -> Dataset:
    scheduled, given = Dataset(), Dataset()
    scheduled.StudyInstanceUID = study
    given.ScheduledStepAttributesSequence, given.PerformedProcedureStepStatus = [scheduled], "IN PROGRESS"
    return given


def _ended(status: str, *instances: str) -> Dataset:
    series, given = Dataset(), Dataset()
    series.ReferencedImageSequence = _referenced(*instances)
    given.PerformedSeriesSequence, given.PerformedProcedureStepStatus = [series], status
    return given


def _steps(listener: Listening) -> list[tuple[str, str, str, tuple[str, ...]]]:
    found = [one for one in listener.inbox.records.values() if isinstance(one, ReceivedStep)]
    assert {(one.source, one.received) for one in found} <= {("pacs", NOW)}
    return [(one.step, one.study, one.state, one.instances) for one in found]


@pytest.mark.parametrize(("status", "state"), [("COMPLETED", "completed"), ("DISCONTINUED", "discontinued")])
def test_a_step_names_what_it_made_when_it_ends(listener: Listening, status: str, state: str) -> None:
    association = listener.associate(PROCEDURE_STEP)
    assert association.send_n_create(_begun(), PROCEDURE_STEP, STEP)[0].Status == 0
    assert association.send_n_set(_ended(status, "1.2.1", "1.2.2"), PROCEDURE_STEP, STEP)[0].Status == 0
    assert association.send_n_set(_ended(status), PROCEDURE_STEP, STEP)[0].Status == 0x0112
    association.release()
    assert _steps(listener) == [(STEP, STUDY, "in progress", ()), (STEP, STUDY, state, ("1.2.1", "1.2.2"))]


def test_a_step_that_is_unknown_malformed_or_of_no_study_proves_nothing(listener: Listening) -> None:
    association = listener.associate(PROCEDURE_STEP)
    assert association.send_n_set(_ended("COMPLETED"), PROCEDURE_STEP, "1.2.3")[0].Status == 0x0112
    assert association.send_n_create(_begun(""), PROCEDURE_STEP, "1.2.4")[0].Status == 0
    association.send_n_create(_begun(), PROCEDURE_STEP, STEP)
    assert association.send_n_set(_ended("DONE"), PROCEDURE_STEP, STEP)[0].Status == 0x0106
    association.release()
    assert _steps(listener) == [(STEP, STUDY, "in progress", ())]


def test_a_step_that_began_before_a_restart_ends_after_it(tmp_path: Path) -> None:
    with listening(tmp_path / "before") as before:
        association = before.associate(PROCEDURE_STEP)
        assert association.send_n_create(_begun(), PROCEDURE_STEP, STEP)[0].Status == 0
        association.release()
    with listening(tmp_path / "after") as after:
        after.inbox.records |= before.inbox.records
        association = after.associate(PROCEDURE_STEP)
        assert association.send_n_set(_ended("COMPLETED", "1.2.1"), PROCEDURE_STEP, STEP)[0].Status == 0
        association.release()
        assert _steps(after)[1:] == [(STEP, STUDY, "completed", ("1.2.1",))]


def test_a_notification_names_the_instances_that_are_available(listener: Listening) -> None:
    series, given = Dataset(), Dataset()
    gone = _referenced("1.2.3", InstanceAvailability="UNAVAILABLE")
    series.ReferencedSOPSequence = [*_referenced("1.2.1", InstanceAvailability="ONLINE"), *gone]
    given.StudyInstanceUID, given.ReferencedSeriesSequence = STUDY, [series]
    association = listener.associate(AVAILABILITY)
    assert association.send_n_create(given, AVAILABILITY, STEP)[0].Status == 0
    association.release()
    assert _steps(listener) == [(STEP, STUDY, "completed", ("1.2.1",))]


def test_a_step_that_cannot_be_stored_is_not_acknowledged(listener: Listening) -> None:
    listener.inbox.error = StoreFull("full")
    association = listener.associate(PROCEDURE_STEP)
    assert association.send_n_create(_begun(), PROCEDURE_STEP, STEP)[0].Status == 0x0213
    association.release()
