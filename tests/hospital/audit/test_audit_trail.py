"""The audit trail: what is told, once, within bounds, and never into a log."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import Comprehensive3DSRStorage

from consilium.databases.database import read_url
from hospital.audit.audit_events import AuditCode, AuditEvent
from hospital.audit.audit_trail import AuditTrail
from hospital.audit.fhir_message import audit_event
from hospital.delivery.destinations import Unreachable
from hospital.running.audit_parts import AuditedSender
from hospital.store.gateway_store import Store, StoreLocation
from hospital.store.received import StoreUnavailable
from hospital.store.state import Delivery, QueuedDelivery, StudyStage, StudyState
from tests.hospital.clock import SetClock
from tests.hospital.dicom.samples import part10, radiograph, without_pixels
from tests.hospital.received_samples import ACCESSION, PATIENT, STUDY, instance, merge, note, observation, order, update


def told(event: AuditEvent) -> bytes:
    return json.dumps(audit_event(event, "gateway", None)).encode()


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def store(tmp_path: Path, clock: SetClock) -> Iterator[Store]:
    url = read_url(f"sqlite:///{tmp_path / 'gateway.db'}", "url")
    opened = Store(StoreLocation(url, tmp_path, tmp_path / "store.key", free_bytes=1), clock)
    opened.take()
    yield opened
    opened.close()


@pytest.fixture
def trail(store: Store) -> AuditTrail:
    return AuditTrail(store, {"atna": told}, "CONSILIUM", capacity=20)


def events(store: Store) -> list[dict]:
    """What waits for the repository, oldest first."""
    found = []
    while (queued := store.outbox.next("atna")) is not None:
        found.append(json.loads(queued.delivery.content))
        store.outbox.sent(queued.number)
    return found


def codes(given: list[dict]) -> list[str]:
    return [one["type"]["display"] for one in given]


def patients(event: dict) -> list[str]:
    return [one["what"]["identifier"]["value"] for one in event.get("entity", []) if one["role"]["code"] == "1"]


def test_what_was_received_is_told_once_a_study_and_a_patient_each(
    store: Store, trail: AuditTrail, clock: SetClock
) -> None:
    store.inbox.add(instance(9, study="1.8"))
    assert trail.follow() == 0, "what came before the trail was switched on is not told"
    store.inbox.add(instance(1), instance(2), order(), update(source="ris"), observation(), note(source="lis"))
    store.inbox.add(merge("1", "2"))
    assert trail.follow() == 0, "an association may still be open"

    clock.move(seconds=11)
    assert trail.follow() == 7
    found = events(store)
    assert codes(found) == [
        "DICOM Instances Transferred",
        "Order Record",
        "Patient Record",
        "Patient Record",
        "Patient Record",
    ]
    transferred = found[0]
    assert transferred["entity"][0]["detail"] == [{"type": "1.2.840.10008.5.1.4.1.1.1.1", "valueString": "2"}]
    assert [one["who"]["display"] for one in transferred["agent"]] == ["pacs", "CONSILIUM"]
    assert [patients(one) for one in found] == [["MRN-4711"]] * 4 + [["1"]]
    assert trail.follow() == 0
    assert events(store) == []


def test_a_trail_goes_on_after_a_death_where_it_was(store: Store, trail: AuditTrail, clock: SetClock) -> None:
    trail.follow()
    store.inbox.add(instance(1))
    clock.move(seconds=11)
    position = store.positions.get("audit")
    trail.follow()
    store.positions.set("audit", position or "")  # died between message and position

    again = AuditTrail(store, {"atna": told}, "CONSILIUM")
    assert again.follow() == 1
    assert codes(events(store)) == ["DICOM Instances Transferred"]


def test_start_stop_query_delivery_and_refusal_are_told(store: Store, trail: AuditTrail, clock: SetClock) -> None:
    store.studies.save(StudyState(STUDY, PATIENT, ACCESSION, StudyStage.ANSWERED, clock(), clock()))
    trail.application(AuditCode.APPLICATION_START)
    trail.queried("pacs", STUDY)
    report = Delivery("1.2", "archive", "sr", b"", STUDY)
    trail.begun(report, "1.2.840.10008.5.1.4.1.1.88.34")
    trail.begun(report, "1.2.840.10008.5.1.4.1.1.88.34")
    trail.delivered(report, "1.2.840.10008.5.1.4.1.1.88.34")
    trail.delivered(Delivery("M1", "ris", "oru", b"", STUDY), None)
    for _ in range(3):
        trail.alert("dicom", "calling")
    trail.alert("hl7 clinic", "address not allowed")

    found = events(store)
    assert codes(found) == [
        "Application Activity",
        "Query",
        "Begin Transferring DICOM Instances",
        "DICOM Instances Transferred",
        "Export",
        "Security Alert",
        "Security Alert",
    ]
    assert [patients(one) for one in found[2:5]] == [["MRN-4711"]] * 3
    began = found[2]
    assert (began["type"]["code"], began["action"]) == ("110102", "E")
    assert [one["who"]["display"] for one in began["agent"]] == ["CONSILIUM", "archive"]
    assert began["entity"][0]["detail"] == [{"type": "1.2.840.10008.5.1.4.1.1.88.34", "valueString": "1"}]
    assert [one.get("outcomeDesc") for one in found[-2:]] == ["calling", "address not allowed"]


class Archive:
    """A destination that is away until it is not."""

    def __init__(self) -> None:
        self.away = True

    async def send(self, queued: QueuedDelivery) -> None:
        if self.away:
            raise Unreachable("no association")

    async def close(self) -> None: ...


def test_the_beginning_of_a_transfer_is_told_before_it_is_known_how_it_ends(store: Store, trail: AuditTrail) -> None:
    store.studies.save(StudyState(STUDY, PATIENT, ACCESSION, StudyStage.ANSWERED, store.clock(), store.clock()))
    report = without_pixels(radiograph(), SOPClassUID=Comprehensive3DSRStorage)
    store.outbox.put([Delivery("1.2", "pacs", "sr", part10(report), STUDY), Delivery("M1", "ris", "oru", b"", STUDY)])
    archive = Archive()
    for name in ("pacs", "ris"):
        queued = store.outbox.next(name)
        assert queued is not None
        sender = AuditedSender(archive, trail)
        for _ in range(2):
            with pytest.raises(Unreachable):
                asyncio.run(sender.send(queued))
    assert codes(events(store)) == ["Begin Transferring DICOM Instances"], "once, and of no message"

    archive.away = False
    queued = store.outbox.next("pacs")
    assert queued is not None
    asyncio.run(AuditedSender(archive, trail).send(queued))
    (ended,) = events(store)
    assert ended["type"]["display"] == "DICOM Instances Transferred"
    assert ended["entity"][0]["detail"] == [{"type": Comprehensive3DSRStorage, "valueString": "1"}]


def test_a_repository_that_is_away_costs_messages_beyond_the_bound_and_nothing_else(
    store: Store, trail: AuditTrail
) -> None:
    for number in range(25):
        trail.queried("pacs", f"1.2.{number}")
    assert trail.counts == {("atna", "spooled"): 20, ("atna", "dropped"): 5}
    assert len(events(store)) == 20


def test_a_store_that_takes_nothing_now_is_no_error_of_what_is_audited(
    store: Store, trail: AuditTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object) -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(store.outbox, "put", unavailable)
    trail.queried("pacs", STUDY)
    monkeypatch.setattr(store.studies, "get", unavailable)
    trail.delivered(Delivery("1.2", "archive", "sr", b"", STUDY), None)
    assert trail.counts == {("atna", "dropped"): 2}


def test_nothing_of_a_patient_is_logged(
    store: Store, trail: AuditTrail, clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    trail.follow()
    store.inbox.add(instance(1), order(), observation())
    clock.move(seconds=11)
    trail.follow()
    assert store.outbox.waiting("atna") == 3
    assert "MRN-4711" not in caplog.text
    assert "MRN-4711" not in repr([one.delivery for one in store.outbox.listed()])
