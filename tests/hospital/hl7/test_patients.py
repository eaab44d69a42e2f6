from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from consilium.domain.errors import InputError
from consilium.domain.study import Sex
from hospital.hl7.messages import parse
from hospital.hl7.patients import read_merges, read_update
from hospital.hl7.source import Source
from hospital.store.received import PatientId, PatientMerge, PatientUpdate
from tests.hospital.hl7.sent_messages import NOW, PID, SITE, message

KIS = Source(name="kis", terminology=SITE, patient_issuer="default")
EVENT = "EVN||20200301090000+0000"
AT = datetime(2020, 3, 1, 9, 0, tzinfo=UTC)


def merges(*segments: str, kind: str = "ADT^A40^ADT_A39") -> tuple[list[PatientMerge], list[str]]:
    return read_merges(parse(message(EVENT, *segments, kind=kind)), KIS, NOW)


def test_an_update_gives_birth_date_and_sex() -> None:
    found = read_update(parse(message(EVENT, PID, kind="ADT^A08")), KIS, NOW)
    assert found == PatientUpdate(PatientId("4711", "hospital"), date(1950, 7, 12), Sex.FEMALE, "kis", AT)


@pytest.mark.parametrize(
    ("sent", "sex"), [("M", Sex.MALE), ("o", Sex.OTHER), ("A", Sex.UNKNOWN), ("", Sex.UNKNOWN), ('""', Sex.UNKNOWN)]
)
def test_sexes(sent: str, sex: Sex) -> None:
    person = PID.replace("|F", f"|{sent}").replace("19500712", "1950")
    found = read_update(parse(message(person, kind="ADT^A31")), KIS, NOW)
    assert (found.sex, found.birth_date) == (sex, None)


@pytest.mark.parametrize(
    ("identifiers", "patient"),
    [
        ("1^^^X~2^^^KIS", PatientId("2", "hospital")),
        ("1^^^X&1.2.3.4&ISO", PatientId("1", "hospital")),
        ("1^^^X", PatientId("1", "X")),
        ("1", PatientId("1", "default")),
        ("1^^^NAT^SS~2^^^Y^PI", PatientId("2", "Y")),
    ],
)
def test_a_patient_is_known_by_id_and_issuer(identifiers: str, patient: PatientId) -> None:
    sent = message(f"PID|1||{identifiers}", kind="ADT^A08")
    assert read_update(parse(sent), KIS, NOW).patient == patient


@pytest.mark.parametrize("identifiers", ["", "1^^^NAT^SS"])
def test_a_patient_without_an_identifier_of_a_hospital_is_refused(identifiers: str) -> None:
    with pytest.raises(InputError, match="must hold an identifier"):
        read_update(parse(message(f"PID|1||{identifiers}", kind="ADT^A08")), KIS, NOW)


def test_in_a_merge_the_patient_of_pid_stays() -> None:
    found, warnings = merges(PID, "MRG|0815^^^KIS")
    assert found == [PatientMerge(PatientId("4711", "hospital"), PatientId("0815", "hospital"), "kis", AT)]
    assert warnings == []


def test_a_change_of_the_identifier_is_a_merge() -> None:
    found, _ = merges(PID, "MRG|0815^^^KIS", kind="ADT^A47^ADT_A30")
    assert [(one.stays.value, one.goes.value) for one in found] == [("4711", "0815")]


def test_a_merge_with_itself_is_ignored_with_a_warning() -> None:
    assert merges(PID, "MRG|4711^^^&1.2.3.4&ISO") == ([], ["a merge of an identifier with itself is ignored"])


def test_several_merges_of_a_message() -> None:
    found, _ = merges("PID|1||1^^^KIS", "MRG|2^^^KIS", "PID|1||3^^^KIS", "MRG|4^^^KIS")
    assert [(one.stays.value, one.goes.value) for one in found] == [("1", "2"), ("3", "4")]


def test_identifiers_are_merged_with_those_of_their_own_issuer() -> None:
    found, _ = merges("PID|1||1^^^KIS~9^^^EPI", "MRG|2^^^KIS~8^^^EPI")
    assert [(one.stays, one.goes) for one in found] == [
        (PatientId("1", "hospital"), PatientId("2", "hospital")),
        (PatientId("9", "EPI"), PatientId("8", "EPI")),
    ]


@pytest.mark.parametrize("segments", [(PID,), ("MRG|1^^^KIS",), (PID, "MRG|")])
def test_half_a_merge_is_refused(segments: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        merges(*segments)
