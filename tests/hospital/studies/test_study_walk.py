"""A study's way from its first object to its results, whatever happens on it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from consilium.domain.errors import InputError
from consilium.domain.study import Sex
from hospital.store.received import Code, PatientId, PatientMerge, RawMessage, ReceivedRejection, Status
from hospital.store.state import DeliveryStage, StudyStage
from hospital.studies.intake import Intake
from hospital.studies.rules.prior_rules import PriorRules
from hospital.studies.rules.routing import Conditions
from service.app import openapi_examples as examples
from tests.hospital.studies.hospital_double import Hospital
from tests.hospital.studies.records import (
    CLINIC,
    CRP,
    NOON,
    STUDY,
    WARD,
    hours,
    instance,
    minutes,
    note,
    observation,
    order,
    update,
)
from tests.hospital.studies.service_double import Asked


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    yield made
    made.store.close()


def work(hospital: Hospital, **after: float) -> Any:
    return asyncio.run(hospital.work(**(after or {"minutes": 2})))


def sent_studies(hospital: Hospital) -> list[str]:
    return [f"{one.delivery.destination} {one.stage}" for one in hospital.outbox]


def test_a_study_is_asked_about_once_it_is_quiet_and_its_results_wait_for_both_destinations(hospital: Hospital) -> None:
    hospital.receive(instance(1), instance(2))
    assert work(hospital, seconds=30).stage is StudyStage.ASSEMBLING
    assert hospital.service.asked == []
    state = work(hospital)
    assert (state.stage, state.route, state.due) == (StudyStage.ANSWERED, "chest", None)
    (asked,) = hospital.service.asked
    assert asked.images == [instance(1).digest.encode(), instance(2).digest.encode()]
    assert asked.key == f"revision-{state.revision}-0-0"
    assert sent_studies(hospital) == ["pacs waiting", "ris waiting"]
    assert hospital.sent == ["1 4711 2"]


def test_values_notes_and_the_order_of_the_patient_go_along(hospital: Hospital) -> None:
    hospital.receive(observation(), observation(9.0, key="2", patient=CLINIC), note(), order())
    hospital.receive(update(date(1950, 3, 6), Sex.FEMALE))
    hospital.receive(instance())
    work(hospital)
    (asked,) = hospital.service.asked
    assert [(one["code"], one["value"]) for one in asked.records["observations"]] == [(CRP, 112.0)]
    assert [one["text"] for one in asked.records["notes"]] == ["Cough for two weeks.", "Pneumonia?"]
    assert asked.records["patient"] == {"age": 73.0, "sex": "F", "names": ["4711", "A1"]}


def test_what_is_sent_again_makes_one_answer(hospital: Hospital) -> None:
    hospital.receive(instance())
    work(hospital)
    for _ in range(50):
        hospital.receive(instance())
    hospital.receive(instance(1, accession=None))  # received by another way: a new row, and nothing new in it
    assert work(hospital).stage is StudyStage.ANSWERED
    assert len(hospital.service.asked) == 1
    assert len(hospital.outbox) == 2


def test_a_late_object_makes_a_revision_that_supersedes_the_former(hospital: Hospital) -> None:
    hospital.receive(instance(1))
    work(hospital)
    hospital.clock.move(hours=3)
    hospital.receive(instance(2))
    assert work(hospital, seconds=30).stage is StudyStage.ASSEMBLING, "a late series is waited for as well"
    work(hospital)
    first, second = hospital.store.studies.revisions(STUDY)
    assert (first.number, second.number) == (1, 2)
    assert sent_studies(hospital) == ["pacs superseded", "ris superseded", "pacs waiting", "ris waiting"]
    assert hospital.sent[-1] == "2 4711 2"


def test_a_corrected_and_a_withdrawn_value_each_make_a_revision_and_one_taken_back_another(hospital: Hospital) -> None:
    hospital.receive(instance(), observation())
    work(hospital)
    corrected = observation(80.0, status=Status.CORRECTED, version="2", issued=NOON)
    hospital.receive(corrected)
    work(hospital)
    hospital.receive(observation(112.0, status=Status.CORRECTED, version="3", issued=NOON + minutes(1)))
    work(hospital)
    hospital.receive(observation(None, status=Status.WITHDRAWN, version="4", issued=NOON + minutes(2)))
    work(hospital)
    values = [[one["value"] for one in asked.records.get("observations", [])] for asked in hospital.service.asked]
    assert values == [[112.0], [80.0], [112.0], []]
    revisions = hospital.store.studies.revisions(STUDY)
    assert [one.number for one in revisions] == [1, 2, 3, 4]
    assert len({one.revision for one in revisions}) == 4, "what is delivered last is never an earlier object"


def test_a_value_that_is_sent_again_for_another_patient_is_no_longer_the_first_ones(hospital: Hospital) -> None:
    hospital.receive(instance(), observation(), note())
    work(hospital)
    later = {"version": "2", "status": Status.CORRECTED, "issued": NOON, "patient": CLINIC}
    hospital.receive(observation(112.0, **(later | {"status": Status.PRELIMINARY, "version": "p"})))
    work(hospital)
    hospital.receive(observation(112.0, **later))
    work(hospital)
    hospital.receive(note(**later))
    work(hospital)
    asked = [one.records for one in hospital.service.asked]
    assert [(len(one.get("observations", [])), len(one.get("notes", []))) for one in asked] == [(1, 1), (0, 1), (0, 0)]
    records = hospital.store.records
    assert (records.observations([WARD]), records.notes([WARD])) == ([], [])
    assert [one.version for one in records.observations([CLINIC])] == ["2"]
    assert len(records.observations([WARD, CLINIC])) == 1
    again = {"version": "3", "status": Status.CORRECTED, "issued": NOON + minutes(1)}
    hospital.receive(observation(112.0, **again))
    work(hospital)
    assert len(hospital.service.asked[-1].records["observations"]) == 1, "it comes back where it is sent back"


def test_a_value_that_the_model_does_not_read_makes_no_revision(hospital: Hospital) -> None:
    hospital.receive(instance())
    work(hospital)
    hospital.receive(observation(code="2345-7"))
    work(hospital)
    assert len(hospital.store.studies.revisions(STUDY)) == 1


@pytest.mark.parametrize(
    ("code", "withdrawn"), [("113001", True), ("113037", True), ("113038", True), ("113039", False)]
)
def test_an_answer_of_whose_images_all_are_rejected_is_withdrawn_but_not_for_their_age(
    hospital: Hospital, code: str, withdrawn: bool
) -> None:
    hospital.receive(instance(), instance(2))
    work(hospital)
    assert len(waiting(hospital)) == 2
    for number in (1, 2):
        rejected = (instance(number).sop_instance,)
        hospital.receive(ReceivedRejection(STUDY, rejected, Code(code, "DCM"), hospital.clock(), "pacs"))
    assert work(hospital).stage is StudyStage.IGNORED
    (only,) = hospital.store.studies.revisions(STUDY)
    assert only.withdrawn is withdrawn
    reached = [("pacs", "withdrawn 1 4711"), ("ris", "withdrawn 1 4711")]
    assert [one for one in waiting(hospital) if "withdrawn" in one[1]] == reached * withdrawn
    work(hospital)
    hospital.receive(instance(3))
    assert work(hospital).stage is StudyStage.ANSWERED
    assert hospital.store.studies.revisions(STUDY)[-1].withdrawn is False


def test_a_rejection_note_makes_a_revision_without_the_object(hospital: Hospital) -> None:
    hospital.receive(instance(1), instance(2))
    work(hospital)
    rejected = (instance(2).sop_instance,)
    hospital.receive(ReceivedRejection(STUDY, rejected, Code("113001", "DCM"), hospital.clock(), "pacs"))
    work(hospital)
    assert [len(asked.images) for asked in hospital.service.asked] == [2, 1]


def test_objects_of_two_patients_are_not_answered_until_a_merge_joins_these(hospital: Hospital) -> None:
    hospital.receive(instance(1), instance(2, patient=CLINIC))
    state = work(hospital)
    assert (state.stage, state.problem) == (StudyStage.FAILED, "its objects name several patients, whom no merge joins")
    assert hospital.service.asked == []
    hospital.build = lambda study: []  # these files are no DICOM
    hospital.receive(PatientMerge(WARD, CLINIC, "adt", NOON))
    state = work(hospital)
    assert state.stage is not StudyStage.ASSEMBLING
    assert state.problem != "its objects name several patients, whom no merge joins"


def test_a_merge_brings_the_values_of_the_former_identifier(hospital: Hospital) -> None:
    former = PatientId("17", "WARD")
    hospital.receive(instance(), observation(patient=former))
    work(hospital)
    assert hospital.service.asked[0].records["observations"] == []
    hospital.receive(PatientMerge(WARD, former, "adt", NOON))
    work(hospital)
    assert [one["value"] for one in hospital.service.asked[1].records["observations"]] == [112.0]


def test_a_later_merge_takes_the_values_of_the_former_identifier_away_again(hospital: Hospital) -> None:
    former, right = PatientId("17", "WARD"), PatientId("18", "WARD")
    hospital.receive(PatientMerge(WARD, former, "adt", NOON))
    hospital.receive(instance(), observation(patient=former))
    work(hospital)
    hospital.clock.move(days=8)
    hospital.receive(PatientMerge(right, former, "adt", NOON + minutes(1)))
    work(hospital)
    values = [[one["value"] for one in asked.records.get("observations", [])] for asked in hospital.service.asked]
    assert values == [[112.0], []]
    assert [one.number for one in hospital.store.studies.revisions(STUDY)] == [1, 2]


def test_a_value_that_a_replay_gives_to_another_patient_is_gone_from_the_former_ones_study(hospital: Hospital) -> None:
    hospital.receive(instance(), instance(5, study="1.9", patient=CLINIC, accession=None))
    hospital.store.inbox.add(observation(), raw=RawMessage("hl7", "m1", b"m1", NOON, "lis"))
    work(hospital)
    (stored,) = hospital.store.records.messages()

    hospital.clock.move(days=8)
    hospital.store.inbox.read_again(stored.number, [observation(patient=CLINIC)], None)
    work(hospital)

    def latest(study: str) -> list[float]:
        images = {one.digest.encode() for one in hospital.store.records.instances(study)}
        asked = [one for one in hospital.service.asked if set(one.images) == images]
        return [one["value"] for one in asked[-1].records.get("observations", [])]

    first, second = hospital.store.studies.revisions(STUDY)
    assert (first.number, second.number, latest(STUDY)) == (1, 2, [])
    stages = {one.stage for one in hospital.outbox if one.delivery.revision == first.revision}
    assert stages == {DeliveryStage.SUPERSEDED}
    hospital.store.inbox.read_again(stored.number, [observation(patient=CLINIC)], None)
    work(hospital)
    assert len(hospital.store.studies.revisions(STUDY)) == 2, "read again without a change, it makes none"


RIGHT, FORMER = PatientId("18", "WARD"), PatientId("17", "WARD")


def delivered(hospital: Hospital, destination: str) -> None:
    """What waits for a destination is sent."""
    while (queued := hospital.store.outbox.next(destination)) is not None:
        hospital.store.outbox.sent(queued.number)


def waiting(hospital: Hospital) -> list[tuple[str, str]]:
    """What waits, in the order in which it may be sent."""
    found = []
    for destination in ("pacs", "ris"):
        while (queued := hospital.store.outbox.next(destination)) is not None:
            found.append((destination, queued.delivery.content.decode()))
            hospital.store.outbox.sent(queued.number)
    return found


def test_what_was_sent_for_the_wrong_patient_is_withdrawn_and_answered_for_the_right_one(hospital: Hospital) -> None:
    hospital.receive(PatientMerge(WARD, FORMER, "adt", NOON))
    hospital.receive(instance(patient=FORMER))
    work(hospital)
    delivered(hospital, "pacs")
    assert hospital.store.outbox.waiting("ris") == 1

    hospital.clock.move(days=8)
    hospital.receive(PatientMerge(RIGHT, FORMER, "adt", NOON + minutes(1)))
    hospital.service.away = True
    state = work(hospital)
    assert state.patient == RIGHT
    assert hospital.store.outbox.waiting("ris") == 0, "what waited for the wrong patient is not sent"
    assert waiting(hospital) == [("pacs", "withdrawn 1 4711")], "before the service has answered"
    hospital.service.away = False
    work(hospital, minutes=6)

    assert waiting(hospital) == [("pacs", "2 18 1"), ("ris", "2 18 1")]
    first, second = hospital.store.studies.revisions(STUDY)
    assert (first.withdrawn, second.withdrawn) == (True, False)
    hospital.receive(PatientMerge(WARD, FORMER, "adt", NOON + minutes(2)))
    work(hospital)
    work(hospital, minutes=6)
    third = [("pacs", "withdrawn 2 18"), ("pacs", "3 4711 1"), ("ris", "withdrawn 2 18"), ("ris", "3 4711 1")]
    assert waiting(hospital) == third, "and back again"


def test_an_answer_waits_until_the_former_is_taken_back_from_the_wrong_patient(hospital: Hospital) -> None:
    hospital.receive(PatientMerge(WARD, FORMER, "adt", NOON))
    hospital.receive(instance(patient=FORMER))
    work(hospital)
    delivered(hospital, "ris")
    hospital.receive(PatientMerge(RIGHT, FORMER, "adt", NOON + minutes(1)))
    work(hospital)
    withdrawal = hospital.store.outbox.next("ris")
    assert withdrawal is not None
    hospital.store.outbox.failed(withdrawal.number, hospital.clock() + minutes(5), "it is busy")

    assert hospital.store.outbox.next("ris") is None

    hospital.clock.move(minutes=6)
    assert waiting(hospital)[-2:] == [("ris", "withdrawn 1 4711"), ("ris", "2 18 1")]


def sent_to_the_wrong_one(hospital: Hospital) -> None:
    """An answer is there, for whom a merge turns out to be the wrong one."""
    hospital.receive(PatientMerge(WARD, FORMER, "adt", NOON))
    hospital.receive(instance(patient=FORMER))
    work(hospital)


def test_what_is_being_sent_when_the_wrong_patient_is_noticed_is_withdrawn(hospital: Hospital) -> None:
    sent_to_the_wrong_one(hospital)
    under_way = hospital.store.outbox.next("ris")
    assert under_way is not None
    assert hospital.store.outbox.begin(under_way.number)
    idle = hospital.store.outbox.next("pacs")
    assert idle is not None

    hospital.receive(PatientMerge(RIGHT, FORMER, "adt", NOON + minutes(1)))
    work(hospital)
    hospital.store.outbox.sent(under_way.number)

    assert not hospital.store.outbox.begin(idle.number), "what a lane has only read is not sent any more"
    assert waiting(hospital) == [("pacs", "2 18 1"), ("ris", "withdrawn 1 4711"), ("ris", "2 18 1")]


def test_an_earlier_answer_is_withdrawn_too_where_the_last_one_had_not_arrived(hospital: Hospital) -> None:
    sent_to_the_wrong_one(hospital)
    delivered(hospital, "ris")
    hospital.receive(instance(2, patient=FORMER))
    work(hospital)
    assert [one.number for one in hospital.store.studies.revisions(STUDY)] == [1, 2]

    hospital.receive(PatientMerge(RIGHT, FORMER, "adt", NOON + minutes(1)))
    work(hospital)

    assert waiting(hospital) == [("pacs", "3 18 2"), ("ris", "withdrawn 1 4711"), ("ris", "3 18 2")]
    assert [one.withdrawn for one in hospital.store.studies.revisions(STUDY)] == [True, True, False]


def test_an_answer_waits_for_every_earlier_withdrawal_of_its_study(hospital: Hospital) -> None:
    sent_to_the_wrong_one(hospital)
    delivered(hospital, "ris")
    hospital.receive(PatientMerge(RIGHT, FORMER, "adt", NOON + minutes(1)))
    work(hospital)
    withdrawal = hospital.store.outbox.next("ris")
    assert withdrawal is not None
    hospital.store.outbox.failed(withdrawal.number, hospital.clock() + timedelta(days=1), "it is busy")
    hospital.receive(PatientMerge(WARD, FORMER, "adt", NOON + minutes(2)))
    work(hospital)
    assert [one.withdrawn for one in hospital.store.studies.revisions(STUDY)] == [True, True, False]

    assert hospital.store.outbox.next("ris") is None, "the late withdrawal would take the right answer back, too"

    hospital.clock.move(days=1)
    assert waiting(hospital)[-2:] == [("ris", "withdrawn 1 4711"), ("ris", "3 4711 1")]


def test_no_person_sends_a_dead_letter_to_the_wrong_patient(hospital: Hospital) -> None:
    sent_to_the_wrong_one(hospital)
    refused = hospital.store.outbox.next("ris")
    assert refused is not None
    hospital.store.outbox.dead(refused.number, "it refuses it")

    hospital.receive(PatientMerge(RIGHT, FORMER, "adt", NOON + minutes(1)))
    work(hospital)

    with pytest.raises(InputError, match="it is superseded"):
        hospital.store.outbox.retry(refused.number)
    hospital.store.outbox.dead(refused.number, "too late")
    assert hospital.store.outbox.unaddressed() == []


def test_no_person_sends_a_refused_withdrawal_behind_the_answer_that_came_in_its_place(hospital: Hospital) -> None:
    sent_to_the_wrong_one(hospital)
    delivered(hospital, "ris")
    hospital.receive(PatientMerge(RIGHT, FORMER, "adt", NOON + minutes(1)))
    work(hospital)
    outbox = hospital.store.outbox
    withdrawal = outbox.next("ris")
    assert withdrawal is not None
    outbox.dead(withdrawal.number, "it refuses it")
    answer = outbox.next("ris")
    assert answer is not None
    outbox.dead(answer.number, "it refuses it")

    with pytest.raises(InputError, match=f"must come after delivery {withdrawal.number}: retry or drop that one first"):
        outbox.retry(answer.number)
    outbox.retry(withdrawal.number)
    outbox.retry(answer.number)
    first = outbox.next("ris")
    assert first is not None
    assert first.number == withdrawal.number
    outbox.dead(withdrawal.number, "it refuses it again")
    outbox.sent(answer.number)
    with pytest.raises(InputError, match=f"must not come after delivery {answer.number}, which was sent in its place"):
        outbox.retry(withdrawal.number)
    outbox.drop(withdrawal.number)


def test_a_merge_that_only_joins_withdraws_nothing(hospital: Hospital) -> None:
    hospital.receive(instance(patient=FORMER))
    work(hospital)
    hospital.receive(PatientMerge(WARD, FORMER, "adt", NOON))
    work(hospital)
    (only,) = hospital.store.studies.revisions(STUDY)
    assert not only.withdrawn


def test_images_that_are_sent_again_with_another_patient_withdraw_what_was_sent(hospital: Hospital) -> None:
    hospital.receive(instance())
    work(hospital)
    delivered(hospital, "ris")
    hospital.clock.move(minutes=1)
    hospital.receive(instance(content="corrected", patient=RIGHT))
    work(hospital)
    assert waiting(hospital) == [("pacs", "2 18 1"), ("ris", "withdrawn 1 4711"), ("ris", "2 18 1")]


@pytest.mark.parametrize("reason", ["Pneumonia?", None])
def test_a_late_order_that_names_another_patient_withdraws_what_was_sent_to_it(
    hospital: Hospital, reason: str | None
) -> None:
    hospital.receive(instance(), order(reason))
    work(hospital)
    delivered(hospital, "ris")
    delivered(hospital, "pacs")

    hospital.clock.move(days=8)
    hospital.receive(order(reason, patient=RIGHT, time=NOON))
    work(hospital)

    assert waiting(hospital)[-2:] == [("ris", "withdrawn 1 4711"), ("ris", "2 4711 1")]
    first, second = hospital.store.studies.revisions(STUDY)
    assert first.addressee is not None
    assert second.addressee is not None
    assert first.addressee.order == order(reason)
    assert second.addressee.order is None
    notes = [asked.records.get("notes", []) for asked in hospital.service.asked]
    assert [bool(one) for one in notes] == [reason is not None, False]


def test_an_order_that_a_replay_gives_to_another_patient_withdraws_what_was_sent_to_it(hospital: Hospital) -> None:
    hospital.receive(instance(), instance(5, study="1.9", patient=CLINIC))
    hospital.store.inbox.add(order(), raw=RawMessage("hl7", "m1", b"m1", NOON, "ris"))
    work(hospital)
    delivered(hospital, "ris")
    (stored,) = hospital.store.records.messages()

    for _ in range(2):
        hospital.clock.move(days=1)
        hospital.store.inbox.read_again(stored.number, [order(patient=CLINIC)], None)
        work(hospital)

    first, second = hospital.store.studies.revisions(STUDY)
    assert (first.withdrawn, second.withdrawn) == (True, False)
    assert hospital.store.records.orders(patients=[WARD]) == []
    right = hospital.store.studies.revisions("1.9")[-1].addressee
    assert right is not None
    assert right.order == order(patient=CLINIC)


def test_our_own_results_start_no_study_and_wake_none(hospital: Hospital) -> None:
    hospital.receive(instance(9, ours=True, study="1.9"))
    assert work(hospital) is None
    assert hospital.store.studies.get("1.9") is None
    hospital.receive(instance(1))
    work(hospital)
    hospital.receive(instance(9, ours=True))
    assert work(hospital).stage is StudyStage.ANSWERED
    assert len(hospital.service.asked) == 1


def test_a_prior_that_was_asked_for_starts_no_study(hospital: Hospital) -> None:
    hospital.receive(instance(requested=True))
    assert work(hospital) is None


def test_a_study_that_no_route_takes_is_ignored_with_the_reason(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, conditions=Conditions(modalities=frozenset({"MG"})))
    hospital.receive(instance())
    state = work(hospital)
    assert (state.stage, state.problem) == (StudyStage.IGNORED, "no route takes it")
    hospital.store.close()


def test_an_answer_is_withdrawn_where_its_images_are_rejected_and_no_route_takes_the_rest(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, conditions=Conditions(views=frozenset({"PA"})))
    hospital.receive(instance(1, view="PA"), instance(2, view="LL"))
    assert work(hospital).stage is StudyStage.ANSWERED
    rejected = (instance(1).sop_instance,)
    hospital.receive(ReceivedRejection(STUDY, rejected, Code("113001", "DCM"), hospital.clock(), "pacs"))
    assert work(hospital).problem == "no route takes it"
    (only,) = hospital.store.studies.revisions(STUDY)
    assert only.withdrawn
    hospital.store.close()


def test_an_object_that_is_not_read_is_no_image(hospital: Hospital) -> None:
    hospital.receive(instance(1, file=None))
    assert work(hospital).problem == "no image is there that the model could read"


def test_the_count_of_the_source_is_waited_for_up_to_the_deadline(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, proofs=("count",))
    both = frozenset({instance(1).sop_instance, instance(2).sop_instance})
    hospital.sources.listed = {STUDY: both}
    hospital.receive(instance(1))
    assert work(hospital).stage is StudyStage.ASSEMBLING
    hospital.receive(instance(2))
    assert work(hospital).stage is StudyStage.ANSWERED
    hospital.sources.listed = None
    hospital.clock.move(seconds=1)
    hospital.receive(instance(3))
    assert work(hospital).stage is StudyStage.ASSEMBLING
    state = work(hospital, minutes=31)
    assert state.stage is StudyStage.ANSWERED
    assert state.warnings == (
        "the study may be incomplete: at the deadline its source had not confirmed that it is whole",
    )
    hospital.store.close()


def test_results_that_were_delivered_to_the_source_are_not_waited_for(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, proofs=("count",))
    hospital.sources.listed = {STUDY: frozenset({instance(1).sop_instance})}
    hospital.receive(instance(1))
    work(hospital)
    ours = {one.delivery.key for one in hospital.outbox}
    hospital.sources.listed = {STUDY: frozenset({instance(1).sop_instance, instance(2).sop_instance, *ours})}
    hospital.clock.move(seconds=1)
    hospital.receive(instance(2))
    state = work(hospital)
    assert (state.stage, state.warnings) == (StudyStage.ANSWERED, ())
    hospital.store.close()


def test_an_open_association_holds_its_study(hospital: Hospital) -> None:
    with hospital.store.holds.association() as hold:
        hold.study(STUDY)
        hospital.receive(instance())
        assert work(hospital).stage is StudyStage.ASSEMBLING
    assert work(hospital).stage is StudyStage.ANSWERED


def test_a_refused_record_is_left_out_and_the_rest_is_answered(hospital: Hospital) -> None:
    def refuse(asked: Asked) -> dict[str, Any] | None:
        broken = [number for number, data in enumerate(asked.images) if data == instance(2).digest.encode()]
        if broken:
            return {"field": f"images[{broken[0]}].PixelData", "rule": "must not be truncated"}
        if asked.records["observations"]:
            return {"field": "observations[0].value", "rule": "must be finite"}
        return None

    hospital.service.refuse = refuse
    hospital.receive(instance(1), instance(2), observation())
    state = work(hospital)
    assert state.stage is StudyStage.ANSWERED
    assert len(hospital.service.asked) == 3
    assert len(hospital.service.asked[-1].images) == 1
    assert state.warnings == (
        "an image was left out, the service refused it: PixelData must not be truncated",
        "a value was left out, the service refused it: value must be finite",
    )


def test_a_study_of_which_nothing_is_left_fails_until_something_new_arrives(hospital: Hospital) -> None:
    hospital.service.refuse = lambda asked: (
        {"field": "images[0]", "rule": "must be a DICOM file"} if len(asked.images) == 1 else None
    )
    hospital.receive(instance(1))
    state = work(hospital)
    assert state.stage is StudyStage.FAILED
    assert state.problem == "an image was left out, the service refused it: must be a DICOM file"
    hospital.receive(instance(2))
    assert work(hospital).stage is StudyStage.ANSWERED


def test_a_service_that_is_away_is_asked_until_it_is_back(hospital: Hospital) -> None:
    hospital.service.away = True
    hospital.receive(instance())
    state = work(hospital)
    for _ in range(20):
        state = work(hospital, minutes=6)
    assert state.stage is not StudyStage.FAILED
    assert state.problem == "the service cannot be reached"
    hospital.service.away = False
    state = work(hospital, minutes=6)
    assert (state.stage, state.problem) == (StudyStage.ANSWERED, None)


def test_a_request_that_the_service_gives_up_is_asked_under_another_key_and_not_for_ever(hospital: Hospital) -> None:
    hospital.service.refuse = lambda asked: {"status": 503}
    hospital.receive(instance())
    for _ in range(8):
        state = work(hospital, minutes=6)
    assert state.stage is StudyStage.FAILED
    assert state.problem == "the service could not answer the study, 5 times"
    assert [asked.key[-4:] for asked in hospital.service.asked] == ["-0-0", "-0-1", "-0-2", "-0-3", "-0-4"]


@pytest.mark.parametrize("at", range(1, 7))
def test_a_gateway_that_dies_at_any_request_asks_and_delivers_once(hospital: Hospital, at: int) -> None:
    """It dies after the service has taken its `at`-th request, and before the answer arrives."""
    hospital.receive(instance(), observation())
    seen: list[str] = []

    class Died(BaseException):
        pass

    def die(request: httpx.Request) -> None:
        seen.append(request.url.path)
        if len(seen) == at:
            raise Died

    hospital.service.before_answer = die
    try:
        work(hospital)
    except Died:
        hospital = hospital.restarted()
    assert work(hospital).stage is StudyStage.ANSWERED
    assert len(hospital.service.asked) == 1
    assert sent_studies(hospital) == ["pacs waiting", "ris waiting"]
    assert len(hospital.store.studies.revisions(STUDY)) == 1
    hospital.store.close()


def test_a_gateway_that_dies_while_results_are_made_makes_them_again(hospital: Hospital) -> None:
    class Died(BaseException):
        pass

    made, build = [], hospital.build

    def dying(study: Any) -> Any:
        made.append(build(study))
        if len(made) == 1:
            raise Died
        return made[-1]

    hospital.build = dying
    hospital.receive(instance())
    with pytest.raises(Died):
        work(hospital)
    again = hospital.restarted()
    assert again.outbox == []
    assert work(again).stage is StudyStage.ANSWERED
    assert len(again.service.asked) == 1
    assert made[0] == made[1], "the same objects"
    again.store.close()


def test_records_that_arrive_while_the_service_is_asked_make_the_next_revision(hospital: Hospital) -> None:
    late = [instance(2)]

    def add(request: httpx.Request) -> None:
        if request.url.path == "/v1/jobs" and late:
            hospital.receive(late.pop())

    hospital.service.before_answer = add
    hospital.receive(instance(1))
    work(hospital)
    state = work(hospital)
    assert state.stage is StudyStage.ANSWERED
    assert hospital.sent[-1] == "2 4711 2"


@pytest.mark.parametrize("rejected", [(1, 2), (2,)])
def test_an_answer_leaves_the_page_whose_images_were_all_rejected_while_it_was_made(
    tmp_path: Path, rejected: tuple[int, ...]
) -> None:
    hospital = Hospital(tmp_path, priors=PriorRules(("pacs",)))
    uids = tuple(instance(number).sop_instance for number in rejected)
    late = [ReceivedRejection(STUDY, uids, Code("113001", "DCM"), hospital.clock(), "pacs")]

    def reject(request: httpx.Request) -> None:
        if request.url.path.endswith("/results") and late:
            hospital.receive(late.pop())
            while Intake(hospital.store, hospital.clock, timedelta(0)).take():
                pass

    hospital.service.before_answer = reject
    hospital.receive(instance(1), instance(2))
    work(hospital)
    assert hospital.store.studies.revisions(STUDY) == []
    (unkept,) = hospital.store.studies.get(STUDY).unkept
    state = work(hospital)
    assert state.unkept == ()
    removed = [one.delivery for one in hospital.outbox if one.delivery.destination == "page of main"]
    if len(rejected) == 2:
        assert state.stage is StudyStage.IGNORED
        assert [(one.kind, one.study) for one in removed] == [("page", STUDY)]
        assert hospital.content(hospital.outbox[-1]) == unkept.result_id == str(examples.EXPLANATION["result_id"])
    else:  # the next answer takes its place
        assert (state.stage, removed) == (StudyStage.ANSWERED, [])
    hospital.store.close()


def test_a_person_who_ignores_a_study_is_heeded_whatever_arrives(hospital: Hospital) -> None:
    hospital.receive(instance(1))
    state = work(hospital)
    hospital.store.studies.save(replace(state, stage=StudyStage.IGNORED, by_hand=True))
    hospital.receive(instance(2))
    assert work(hospital).stage is StudyStage.IGNORED
    assert len(hospital.service.asked) == 1


def test_results_that_cannot_be_made_leave_the_study_to_a_person_and_others_go_on(hospital: Hospital) -> None:
    def build(study: Any) -> Any:
        raise ValueError("4711")

    hospital.build = build
    hospital.receive(instance(1))
    for _ in range(8):
        state = work(hospital, minutes=6)
    assert (state.stage, state.problem) == (StudyStage.FAILED, "a step failed: ValueError")
    assert [one for one in hospital.outbox if one.stage is not DeliveryStage.WAITING] == []


def test_what_comes_after_days_makes_no_new_answer(hospital: Hospital) -> None:
    hospital.receive(instance())
    work(hospital)
    hospital.clock.move(days=8)
    hospital.receive(observation(time=NOON - hours(1)))
    work(hospital)
    assert len(hospital.service.asked) == 1


def test_a_changed_model_answers_a_study_anew_where_something_arrives(hospital: Hospital) -> None:
    hospital.receive(instance())
    work(hospital)
    hospital.service.digest = "1" * 64
    hospital.clock.move(minutes=5)
    hospital.receive(observation(code="2345-7"))
    work(hospital)
    assert [one.number for one in hospital.store.studies.revisions(STUDY)] == [1, 2]
