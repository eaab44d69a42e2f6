"""Results as ORU^R01 messages."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import hl7

from consilium.domain.diagnosis import ModelIdentity
from consilium.output.reported import Presence, ReportedFinding, ReportedStudy
from hospital.hl7.messages import parse
from hospital.hl7.report_message import ReportMessage

FINDINGS = (
    ReportedFinding("pneumonia", "Pneumonia", "233604007", 0.731234, (0.6, 0.8), Presence.PRESENT, True, 0.4),
    ReportedFinding(
        "effusion", "Effusion", None, 0.25, (0.1, 0.4), Presence.UNDETERMINED, False, 0.4, ("it was seen too rarely",)
    ),
)
STUDY = ReportedStudy("ab12" * 16, ModelIdentity("chest", "3", "0" * 64), FINDINGS, (), ("no lateral view | at all",))
MESSAGE = ReportMessage(
    STUDY,
    "1.2.3",
    "4711",
    "KIS",
    datetime(2026, 1, 5, 12, tzinfo=UTC),
    name="Müller^Änne",
    birth_date="19600203",
    sex="F",
    placer="P1",
    accession="A1",
    taken=datetime(2026, 1, 5, 9, 15, tzinfo=UTC),
    application="RIS",
    facility="RAD",
)


def test_an_independent_reader_finds_patient_order_and_findings() -> None:
    read = hl7.parse(MESSAGE.content().decode())
    assert (str(read["MSH.F9.R1.C1"]), str(read["MSH.F9.R1.C2"])) == ("ORU", "R01")
    assert (str(read["PID.F3.R1.C1"]), str(read["PID.F3.R1.C4"])) == ("4711", "KIS")
    assert (str(read["PID.F5.R1.C1"]), str(read["OBR.F18"]), str(read["OBR.F25"])) == ("Müller", "A1", "P")
    rows = [[str(field) for field in segment] for segment in read.segments("OBX")]
    by_finding = [(row[2], row[3], row[4], row[5], row[6]) for row in rows if row[4]]
    assert by_finding == [
        ("CWE", "233604007^Pneumonia^SCT", "1", "52101004^Present^SCT", ""),
        ("NM", "122157^Probability^DCM", "1", "0.731234", "1"),
        ("CWE", "effusion^Effusion^99CONSILIUM", "2", "373068000^Undetermined^SCT", ""),
        ("NM", "122157^Probability^DCM", "2", "0.25", "1"),
        ("TX", "121106^Comment^DCM", "2", "Effusion: assess without the model. it was seen too rarely", ""),
    ]
    assert {row[11] for row in rows} == {"P"}
    assert [int(row[1]) for row in rows] == list(range(1, len(rows) + 1))


def test_our_own_reader_understands_it_with_its_umlauts_and_separators() -> None:
    message = parse(MESSAGE.content())
    assert message.control_id == STUDY.revision[:20]
    pid, comments = message.first("PID"), [one for one in message.all("OBX") if one.text(2) == "TX"]
    assert pid is not None
    assert pid.text(5, 2) == "Änne"
    assert any("no lateral view | at all" in comment.text(5) for comment in comments)
    assert any(one.text(5) == "1.2.3" for one in message.all("OBX"))


def test_a_later_revision_says_so_and_has_a_control_id_of_its_own() -> None:
    later = replace(MESSAGE, reported=replace(STUDY, revision="cd34" * 16), number=2)
    assert later.control_id != MESSAGE.control_id
    assert b"Revision 2: it takes the place of the former." in later.content()
    assert MESSAGE.content() == replace(MESSAGE).content()


def test_a_withdrawal_gives_every_value_as_wrong_under_a_control_id_of_its_own() -> None:
    first, withdrawn = MESSAGE, replace(MESSAGE, withdrawn=True)
    read, sent = (hl7.parse(one.content().decode()) for one in (withdrawn, first))
    assert read["MSH.F10"] != sent["MSH.F10"]
    assert (str(read["OBR.F2"]), str(read["OBR.F3"])) == (str(sent["OBR.F2"]), str(sent["OBR.F3"]))
    rows = [[str(field) for field in segment] for segment in read.segments("OBX")]
    assert {row[11] for row in rows} == {"W"}
    valued = [[str(field) for field in segment][2:6] for segment in sent.segments("OBX") if str(segment[4])]
    assert [row[2:6] for row in rows if row[4]] == valued, "of the same values"
    assert any("wrong patient" in row[5] for row in rows)
    assert str(read["OBR.F25"]) == "C"


def test_a_referred_study_says_so_before_anything_else() -> None:
    referred = replace(MESSAGE, reported=replace(STUDY, refer_reasons=("unlike the training studies",)))
    comments = [one.text(5) for one in parse(referred.content()).all("OBX") if one.text(2) == "TX" and not one.text(4)]
    assert comments[0] == "Referred: assess this study without the model. unlike the training studies"
