from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import structlog
from structlog.testing import capture_logs

from hospital.hl7.messages import Message, parse
from hospital.hl7.mllp import Frame
from hospital.hl7.receiving import Receiver
from hospital.store.received import PatientMerge, PatientUpdate, ReceivedObservation, ReceivedOrder, StoreFull
from hospital.terminology.site_tables import Issuers
from tests.hospital.hl7.sent_messages import LABORATORY, NOW, OBR, PID, SITE, MemoryInbox, message, result

ORU = message(PID, OBR, result("112"))


@pytest.fixture
def inbox() -> MemoryInbox:
    return MemoryInbox()


@pytest.fixture
def receiver(inbox: MemoryInbox) -> Receiver:
    return Receiver(LABORATORY, inbox, clock=lambda: NOW)


@pytest.fixture(autouse=True)
def unconfigured_logs() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def answer(receiver: Receiver, content: bytes, *, whole: bool = True) -> tuple[str, str]:
    """Acknowledgement code and error code."""
    sent = receiver.receive(Frame(content, whole))
    assert sent is not None
    read: Message = parse(sent)
    error = read.first("ERR")
    return read.segments[1].text(1), error.text(3) if error else ""


def test_what_is_acknowledged_is_stored_with_its_bytes(receiver: Receiver, inbox: MemoryInbox) -> None:
    assert answer(receiver, ORU) == ("AA", "")
    (found,) = inbox.records
    assert isinstance(found, ReceivedObservation)
    assert found.value == 112.0
    (raw,) = inbox.raw.values()
    assert (raw.content, raw.protocol, raw.source, raw.received, raw.problem) == (ORU, "hl7", "laboratory", NOW, None)


def test_a_repeated_message_is_acknowledged_and_stored_once(receiver: Receiver, inbox: MemoryInbox) -> None:
    assert [answer(receiver, ORU) for _ in range(3)] == [("AA", "")] * 3
    assert len(inbox.records) == len(inbox.raw) == 1


def test_a_control_id_that_starts_anew_drops_no_message(receiver: Receiver, inbox: MemoryInbox) -> None:
    answer(receiver, ORU)
    answer(receiver, message(PID, OBR, result("113")))
    assert [one.value for one in inbox.records if isinstance(one, ReceivedObservation)] == [112.0, 113.0]


@pytest.mark.parametrize(
    ("kind", "segments", "types"),
    [
        ("ORM^O01", (PID, "ORC|NW|P7", "OBR|1|P7"), [ReceivedOrder]),
        ("OMI^O23", (PID, "ORC|NW|P7", "OBR|1|P7"), [ReceivedOrder]),
        ("ADT^A08", (PID,), [PatientUpdate]),
        ("ADT^A40", (PID, "MRG|1^^^KIS"), [PatientMerge]),
        ("ADT^A47", (PID, "MRG|1^^^KIS"), [PatientMerge]),
        ("ADT^A11", (PID,), []),
        ("ORU^R01", (PID, OBR, result("1", status="O")), []),
    ],
)
def test_kinds_of_messages(
    receiver: Receiver, inbox: MemoryInbox, kind: str, segments: tuple[str, ...], types: list[type]
) -> None:
    assert answer(receiver, message(*segments, kind=kind)) == ("AA", "")
    assert [type(one) for one in inbox.records] == types


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (message(PID, kind="SIU^S12"), ("AR", "200")),
        (ORU.replace(b"|P|2.5.1", b"|T|2.5.1"), ("AR", "202")),
        (ORU.replace(b"|P|2.5.1", b"|D|2.5.1"), ("AR", "202")),
        (message(OBR, result("1")), ("AE", "101")),
        (message("PID|1", OBR, result("1")), ("AE", "101")),
        (b"garbage", ("AR", "102")),
        (b"", ("AR", "102")),
        (message("OBX" + "|" * 200_000), ("AE", "102")),
    ],
)
def test_what_cannot_be_taken_is_refused_and_gives_no_records(
    receiver: Receiver, inbox: MemoryInbox, content: bytes, expected: tuple[str, str]
) -> None:
    assert answer(receiver, content) == expected
    assert inbox.records == []


def test_a_message_that_cannot_be_used_is_kept_for_a_person(receiver: Receiver, inbox: MemoryInbox) -> None:
    answer(receiver, message("PID|1", OBR, result("1")))
    (raw,) = inbox.raw.values()
    assert raw.problem == "PID-3 must hold an identifier of the patient"


def test_what_was_refused_may_be_taken_later(inbox: MemoryInbox) -> None:
    """As when the site's tables were wrong."""
    sent = message("PID|1||123456^^^NAT^SS", OBR, result("1"))
    assert answer(Receiver(LABORATORY, inbox, clock=lambda: NOW), sent)[0] == "AE"
    corrected = replace(LABORATORY, terminology=replace(SITE, issuers=Issuers({"NAT": "nation"})))
    assert answer(Receiver(corrected, inbox, clock=lambda: NOW), sent)[0] == "AA"
    assert len(inbox.records) == 1


def test_test_messages_are_taken_where_the_listener_is_for_tests(inbox: MemoryInbox) -> None:
    receiver = Receiver(LABORATORY, inbox, clock=lambda: NOW, productive=False)
    assert answer(receiver, ORU.replace(b"|P|2.5.1", b"|T|2.5.1")) == ("AA", "")


def test_a_frame_beyond_the_limit_is_refused_by_its_header(receiver: Receiver) -> None:
    sent = receiver.receive(Frame(ORU[:200], whole=False))
    assert sent is not None
    assert [parse(sent).segments[1].text(part) for part in (1, 2)] == ["AR", "42"]


def test_a_full_store_is_answered_not_now(receiver: Receiver, inbox: MemoryInbox) -> None:
    inbox.fault = StoreFull("full")
    assert answer(receiver, ORU) == ("AR", "207")
    inbox.fault = None
    assert answer(receiver, ORU) == ("AA", "")


def test_a_fault_of_ours_is_answered_and_logged_without_content(receiver: Receiver, inbox: MemoryInbox) -> None:
    inbox.fault = ValueError("4711 Muster")
    with capture_logs() as logs:
        assert answer(receiver, ORU) == ("AR", "207")
    assert [log["event"] for log in logs] == ["message failed", "message refused"]
    assert "Muster" not in str(logs)


def test_logs_of_refused_messages_name_no_value(receiver: Receiver) -> None:
    with capture_logs() as logs:
        receiver.receive(Frame(message("PID|1||4711^^^N^SS||Muster", OBR, result("1"))))
        receiver.receive(Frame(message("PID|1||4711||Müster", kind="SIU^Muster").decode().encode("cp1252")))
    assert len(logs) == 2
    assert "4711" not in str(logs)
    assert "ster" not in str(logs)


def test_messages_are_counted_by_kind_and_verdict(receiver: Receiver) -> None:
    for content in (ORU, ORU, message(PID, kind="SIU^S12"), b"x"):
        receiver.receive(Frame(content))
    assert receiver.counts == {("ORU", "accept"): 2, ("other", "reject"): 2}
