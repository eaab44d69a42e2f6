"""Studies, revisions and the outbox in the store: one transaction, nobody's change lost, nothing delivered twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from consilium.domain.errors import InputError
from hospital.store.gateway_store import Store
from hospital.store.received import PatientId
from hospital.store.state import Delivery, DeliveryStage, Revision, StudyChanged, StudyStage, StudyState
from tests.hospital.clock import START, SetClock
from tests.hospital.received_samples import ACCESSION, PATIENT, STUDY, instance, observation

STATE = StudyState(STUDY, PATIENT, ACCESSION, StudyStage.ASSEMBLING, START, START, START + timedelta(minutes=1))


def revision(name: str = "r1", number: int = 1) -> Revision:
    return Revision(name, STUDY, number, START, {"images": ["a"]}, b'{"findings": "\xc3\xa4"}', ("late",))


def delivery(key: str = "sr-1", content: bytes = b"SR", **changes: object) -> Delivery:
    return replace(Delivery(key, "pacs", "sr", content, STUDY, "r1"), **changes)  # type: ignore[arg-type]


def waiting(store: Store) -> list[str]:
    return [one.delivery.key for one in store.outbox.listed(stages=[DeliveryStage.WAITING])]


def test_a_study_is_read_as_it_was_saved_and_is_due_at_its_time(store: Store, clock: SetClock) -> None:
    saved = store.studies.save(STATE)

    assert saved == replace(STATE, version=1)
    assert store.studies.get(STUDY) == saved
    assert store.studies.due() == []
    clock.move(minutes=1)
    assert store.studies.due() == [saved]
    assert store.studies.get("1.2") is None
    assert store.studies.counts() == {StudyStage.ASSEMBLING: 1}


def test_records_are_handled_in_the_transaction_that_saves_the_study(store: Store) -> None:
    store.inbox.add(instance(1), instance(2), observation())
    first, second, _ = store.records.unhandled()

    store.studies.save(STATE, [first.number, second.number])
    assert [stored.record for stored in store.records.unhandled()] == [observation()]

    with pytest.raises(StudyChanged):
        store.studies.save(STATE, [3])
    assert len(store.records.unhandled()) == 1
    store.records.mark_handled([3])
    assert store.records.unhandled() == []


def test_a_change_of_somebody_else_is_not_overwritten(store: Store) -> None:
    read = store.studies.save(STATE)
    ignored = store.studies.save(replace(read, stage=StudyStage.IGNORED, due=None, by_hand=True))

    with pytest.raises(StudyChanged):
        store.studies.save(replace(read, stage=StudyStage.REQUESTED))
    assert store.studies.get(STUDY) == ignored


def test_studies_are_found_by_patient_and_by_accession_with_their_issuers(store: Store) -> None:
    saved = store.studies.save(STATE)
    store.studies.save(replace(STATE, study="1.9", patient=PatientId(PATIENT.value, "other"), accession=None))

    assert store.studies.of([PATIENT]) == [saved]
    assert store.studies.of([], ACCESSION) == [saved]
    assert store.studies.of([PatientId(PATIENT.value)]) == []
    assert len(store.studies.listed(stages=[StudyStage.ASSEMBLING])) == 2


def test_an_answer_brings_its_revision_and_deliveries_with_it(store: Store) -> None:
    asked = store.studies.save(replace(STATE, stage=StudyStage.REQUESTED))
    answered = replace(asked, stage=StudyStage.ANSWERED, revision="r1", due=None)

    saved = store.studies.answer(answered, revision(), [delivery()])

    assert store.studies.get(STUDY) == saved == replace(answered, version=2)
    assert store.studies.revisions(STUDY) == [revision()]
    assert store.studies.revision("r1") == revision()
    assert store.studies.revision("r2") is None
    assert waiting(store) == ["sr-1"]
    assert store.to_send.is_set()


def test_an_answer_to_a_study_that_was_changed_leaves_nothing(store: Store) -> None:
    read = store.studies.save(STATE)
    store.studies.save(replace(read, stage=StudyStage.IGNORED))

    with pytest.raises(StudyChanged):
        store.studies.answer(read, revision(), [delivery()])
    assert store.studies.revisions(STUDY) == []
    assert waiting(store) == []


def test_the_same_answer_again_is_delivered_once(store: Store) -> None:
    saved = store.studies.answer(STATE, revision(), [delivery()])
    saved = store.studies.answer(saved, revision(), [delivery(content=b"built again")])
    sent = store.outbox.next("pacs")
    assert sent is not None
    assert sent.delivery.content == b"SR"
    store.outbox.sent(sent.number)

    store.studies.answer(saved, revision(), [delivery()])

    assert store.outbox.next("pacs") is None


def test_what_waits_of_an_earlier_revision_is_superseded_and_comes_back_when_it_is_wanted_again(store: Store) -> None:
    saved = store.studies.answer(STATE, revision(), [delivery()])
    saved = store.studies.answer(saved, revision("r2", 2), [delivery("sr-2", revision="r2", after=("sr-1",))])
    assert waiting(store) == ["sr-2"]
    found = store.outbox.next("pacs")
    assert found is not None
    assert found.delivery.key == "sr-2"

    store.studies.answer(saved, revision(), [delivery()])

    assert waiting(store) == ["sr-1"]


def test_a_delivery_waits_for_those_it_comes_after(store: Store, clock: SetClock) -> None:
    store.outbox.put([delivery("a"), delivery("b", after=("a",)), delivery("c")])

    a = store.outbox.next("pacs")
    assert a is not None
    store.outbox.failed(a.number, clock() + timedelta(minutes=1), "no answer")
    c = store.outbox.next("pacs")
    assert c is not None
    assert (a.delivery.key, c.delivery.key) == ("a", "c")
    store.outbox.sent(c.number)
    assert store.outbox.next("pacs") is None
    assert store.outbox.next_due("pacs") == clock()

    clock.move(minutes=1)
    again = store.outbox.next("pacs")
    assert again is not None
    assert (again.delivery.key, again.attempts, again.problem) == ("a", 1, "no answer")
    store.outbox.sent(a.number)
    b = store.outbox.next("pacs")
    assert b is not None
    assert b.delivery.key == "b"


def test_lanes_are_apart_and_a_lane_can_be_postponed_as_a_whole(store: Store, clock: SetClock) -> None:
    store.outbox.put([delivery("a"), delivery("b"), delivery("a", destination="ris")])

    store.outbox.postpone("pacs", clock() + timedelta(minutes=5), "no answer")

    assert store.outbox.next("pacs") is None
    assert store.outbox.next_due("pacs") == clock() + timedelta(minutes=5)
    other = store.outbox.next("ris")
    assert other is not None
    assert other.delivery.destination == "ris"
    assert store.outbox.next("unknown") is None
    assert store.outbox.next_due("unknown") is None


def test_a_dead_delivery_keeps_its_content_for_a_retry(store: Store) -> None:
    store.outbox.put([delivery()])
    found = store.outbox.next("pacs")
    assert found is not None
    store.outbox.dead(found.number, "refused: 0xA900")
    assert store.outbox.next("pacs") is None
    assert store.outbox.counts() == {("pacs", DeliveryStage.DEAD): 1}

    retried = store.outbox.retry(found.number)

    assert (retried.stage, retried.attempts, retried.problem) == (DeliveryStage.WAITING, 1, "refused: 0xA900")
    again = store.outbox.next("pacs")
    assert again is not None
    assert again.delivery.content == b"SR"


def test_what_was_dropped_or_sent_is_neither_sent_nor_kept(store: Store) -> None:
    store.outbox.put([delivery("a"), delivery("b")])
    first = store.outbox.next("pacs")
    assert first is not None
    assert store.outbox.drop(first.number).stage is DeliveryStage.DROPPED
    second = store.outbox.next("pacs")
    assert second is not None
    store.outbox.sent(second.number)

    with store.database.reading() as session:
        from hospital.store.rows.tables import DeliveryRow

        assert list(session.query(DeliveryRow.content)) == [(None,), (None,)]
    for number in (first.number, second.number):
        with pytest.raises(InputError, match="must be a delivery that waits or is dead; it is"):
            store.outbox.retry(number)
    with pytest.raises(InputError, match="must be the number of a delivery"):
        store.outbox.drop(99)
