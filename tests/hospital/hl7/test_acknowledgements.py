from __future__ import annotations

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message

from hospital.hl7.acknowledgements import ACCEPTED, Answer, Outcome, Verdict, acknowledgement
from hospital.hl7.messages import Message, parse
from tests.hospital.hl7.sent_messages import NOW, PID, message

ERROR = Outcome(Verdict.ERROR, 101, "PID-3 must hold an identifier of the patient")
REJECT = Outcome(Verdict.REJECT, 207, "cannot be stored now, send it again later")


def answered(sent: bytes, outcome: Outcome) -> Message:
    answer = acknowledgement(parse(sent), outcome, NOW)
    assert answer is not None
    return parse(answer)


@pytest.mark.parametrize(("outcome", "code"), [(ACCEPTED, "AA"), (ERROR, "AE"), (REJECT, "AR")])
def test_original_mode(outcome: Outcome, code: str) -> None:
    answer = answered(message(PID), outcome)
    assert [answer.segments[1].text(1), answer.segments[1].text(2)] == [code, "42"]


@pytest.mark.parametrize(
    ("asked", "outcome", "code"),
    [
        ("||AL|NE", ACCEPTED, "CA"),
        ("||AL|AL", ERROR, "CE"),
        ("||AL|", REJECT, "CR"),
        ("||NE|NE", ACCEPTED, None),
        ("||ER|NE", ACCEPTED, None),
        ("||ER|NE", ERROR, "CE"),
        ("||SU|NE", ERROR, None),
        ("||SU|NE", ACCEPTED, "CA"),
        ("||NE|AL", ACCEPTED, "AA"),
        ("||NE|AL", REJECT, "AR"),
    ],
)
def test_enhanced_mode_answers_as_the_sender_asks(asked: str, outcome: Outcome, code: str | None) -> None:
    answer = acknowledgement(parse(message(PID, header=asked)), outcome, NOW)
    assert (parse(answer).segments[1].text(1) if answer else None) == code


def test_the_header_turns_sender_and_receiver_and_echoes_event_mode_and_version() -> None:
    header = answered(message(PID), ACCEPTED).header
    assert [header.text(field) for field in (3, 4, 5, 6, 11, 12)] == ["CONSILIUM", "RAD", "LIS", "H", "P", "2.5.1"]
    assert [header.text(9, part) for part in (1, 2, 3)] == ["ACK", "R01", "ACK"]
    assert header.text(7) == "20200301120000+0000"


def test_every_answer_has_a_control_id_of_its_own() -> None:
    ids = {answered(message(PID), ACCEPTED).control_id for _ in range(20)}
    assert len(ids) == 20
    assert all(0 < len(one) <= 20 for one in ids)


def test_an_unreadable_message_is_rejected_without_an_id() -> None:
    answer = acknowledgement(None, Outcome(Verdict.REJECT, 100, "must begin with MSH"), NOW)
    assert answer is not None
    assert [parse(answer).segments[1].text(part) for part in (1, 2, 3)] == ["AR", "", "must begin with MSH"]


def test_names_of_the_sender_are_escaped() -> None:
    sent = message(PID).replace(b"|LIS|", b"|L\\F\\IS^1.2\\T\\3^ISO|")
    assert answered(sent, ACCEPTED).header.text(5) == "L|IS"
    assert answered(sent, ACCEPTED).header.text(5, 2) == "1.2&3"


@pytest.mark.parametrize("outcome", [ACCEPTED, ERROR, REJECT])
def test_answers_are_valid_for_hl7apy(outcome: Outcome) -> None:
    answer = acknowledgement(parse(message(PID)), outcome, NOW)
    assert answer is not None
    parsed = parse_message(answer.decode(), validation_level=VALIDATION_LEVEL.STRICT, find_groups=True)
    assert parsed.validate()
    assert parsed.msa.msa_2.value == "42"


@pytest.mark.parametrize(
    ("sent", "accepted", "later"),
    [
        ("MSA|AA|7", True, False),
        ("MSA|CA|7", True, False),
        ("MSA|AE|7|no\rERR|||101^x^HL70357|E", False, False),
        ("MSA|AR|7", False, True),
        ("MSA|AR|7\rERR|||207^x^HL70357|E", False, True),
        ("MSA|AR|7\rERR|||200^x^HL70357|E", False, False),
        ("MSA|CR|7|||206", False, True),
        ("MSA|CE|7", False, False),
    ],
)
def test_answers_to_us_say_whether_to_try_again(sent: str, accepted: bool, later: bool) -> None:
    answer = Answer.of(parse(b"MSH|^~\\&|RIS|H|C|R|20200301||ACK|1|P|2.5\r" + sent.encode()))
    assert answer is not None
    assert answer.control_id == "7"
    assert (answer.accepted, answer.may_pass_later) == (accepted, later)


def test_another_message_is_no_answer() -> None:
    assert Answer.of(parse(message(PID))) is None
