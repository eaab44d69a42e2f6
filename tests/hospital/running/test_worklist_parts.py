"""What becomes of a work item's studies in a real store: fetched, answered by the worker, delivered, or set aside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hospital.dicom.query_retrieve import Moved
from hospital.running.sources.study_fetching import StudyFetching
from hospital.running.worklist_parts import WITHDRAWN, FetchedStudies
from hospital.store.received import PatientId, PatientMerge
from hospital.store.state import StudyStage
from hospital.studies.rules.routing import Conditions
from hospital.worklist.performed_steps import NOT_SUPPORTED, UNSPECIFIED
from hospital.worklist.performer import ANSWERED, ASKED, DELIVERED, FETCHED, InputUnavailable
from tests.hospital.running.settings_sample import settings
from tests.hospital.studies.hospital_double import Hospital
from tests.hospital.studies.records import NOON, STUDY, instance

pytestmark = pytest.mark.anyio
MORE = """
dicom: {listen: "127.0.0.1:0"}
peers: {archive: {ae_title: ARCHIVE, address: "127.0.0.1:9", may: [be asked, receive]}}
dicomweb: {web: {url: "http://127.0.0.1:9/dicom-web"}}
destinations: {pacs: {kind: dicom, peer: archive}, ris: {kind: stow, server: web}}
"""
IMAGES = [instance(1, requested=True), instance(2, requested=True)]


class Archive:
    """A source that sends what it has, as often as it is asked."""

    def __init__(self, hospital: Hospital) -> None:
        self.hospital, self.listed, self.sends = hospital, list(IMAGES), list(IMAGES)
        self.moves = 0

    def move(self, study: str) -> Moved:
        self.moves += 1
        self.hospital.receive(*self.sends)
        return Moved(len(self.sends), len(self.listed) - len(self.sends), 0)

    def instances(self, study: str) -> frozenset[str]:
        return frozenset(one.sop_instance for one in self.listed)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def archive(hospital: Hospital) -> Archive:
    return Archive(hospital)


@pytest.fixture
def studies(tmp_path: Path, hospital: Hospital, archive: Archive) -> FetchedStudies:
    fetching = StudyFetching("archive", archive.move, archive.instances)
    return FetchedStudies(settings(tmp_path, MORE), hospital.store, fetching)


async def test_a_fetched_study_is_answered_and_its_objects_are_named(
    hospital: Hospital, studies: FetchedStudies
) -> None:
    await studies.fetch(STUDY)
    await hospital.work(minutes=5)
    assert hospital.store.studies.get(STUDY) is None, "what was asked for starts no study by itself"

    await studies.begin(STUDY)
    assert (await studies.standing(STUDY)).percent == FETCHED
    hospital.service.away = True
    await hospital.work(minutes=5)
    hospital.service.away = False
    assert (await studies.standing(STUDY)).percent in (FETCHED, ASKED)
    await hospital.work(minutes=10)
    assert (await studies.standing(STUDY)).percent == ANSWERED
    for queued in hospital.outbox:
        hospital.store.outbox.sent(queued.number)

    standing = await studies.standing(STUDY)

    assert standing.percent == DELIVERED
    assert {(one.study, one.ae_title) for one in standing.outputs} == {(STUDY, "ARCHIVE"), (STUDY, None)}
    (by_web,) = [one for one in standing.outputs if one.url is not None]
    assert by_web.url == f"http://127.0.0.1:9/dicom-web/studies/{STUDY}/series/{by_web.series}"
    assert {one.sop_instance for one in standing.outputs} == {one.delivery.key for one in hospital.outbox}


async def test_what_is_there_is_not_fetched_again_and_what_is_missing_is_said(
    studies: FetchedStudies, archive: Archive
) -> None:
    archive.sends = IMAGES[:1]
    with pytest.raises(InputUnavailable, match=r"^archive: 1 of 2 objects did not arrive, 1 failed$"):
        await studies.fetch(STUDY)
    archive.sends = IMAGES
    await studies.fetch(STUDY)
    await studies.fetch(STUDY)
    assert archive.moves == 2

    archive.listed = []
    with pytest.raises(InputUnavailable, match=r"^archive has nothing of the study$"):
        await studies.fetch(STUDY)


async def test_every_number_of_the_patient_counts(hospital: Hospital, studies: FetchedStudies) -> None:
    await studies.fetch(STUDY)
    patient = IMAGES[0].patient
    assert patient is not None
    hospital.receive(PatientMerge(patient, PatientId("OLD", patient.issuer), "adt", NOON))

    assert (await studies.standing(STUDY)).patients == {patient.value, "OLD"}


async def test_a_study_that_was_sent_as_well_is_not_withdrawn(hospital: Hospital, studies: FetchedStudies) -> None:
    await studies.fetch(STUDY)
    await studies.begin(STUDY)
    await studies.withdraw(STUDY)
    state = hospital.store.studies.get(STUDY)
    assert state is not None
    assert (state.stage, state.problem, state.due) == (StudyStage.IGNORED, WITHDRAWN, None)
    assert (await studies.standing(STUDY)).given_up == UNSPECIFIED

    hospital.receive(replace(instance(3), requested=False))
    await hospital.worker.turn()
    await studies.withdraw(STUDY)
    state = hospital.store.studies.get(STUDY)
    assert state is not None
    assert state.stage is StudyStage.ASSEMBLING


async def test_why_nothing_comes_of_a_study_is_said(
    tmp_path: Path, studies: FetchedStudies, hospital: Hospital
) -> None:
    hospital.conditions = Conditions(modalities=frozenset({"MG"}))
    again = hospital.restarted()
    other = FetchedStudies(
        studies.settings, again.store, StudyFetching("archive", Archive(again).move, Archive(again).instances)
    )
    await other.fetch(STUDY)
    await other.begin(STUDY)
    await again.work(minutes=5)
    standing = await other.standing(STUDY)
    assert (standing.given_up, standing.description) == (NOT_SUPPORTED, "no route takes it")
    again.store.close()
