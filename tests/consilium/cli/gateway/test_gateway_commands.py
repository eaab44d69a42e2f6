"""`consilium gateway`: what a person sees of studies, messages and deliveries, and what he decides."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consilium.cli import main
from consilium.domain.errors import InputError
from hospital.hl7.mllp import Frame
from hospital.hl7.receiving import Receiver
from hospital.running.gateway import store_location
from hospital.running.hl7_parts import hl7_source
from hospital.store.gateway_store import Store
from hospital.store.keys import SETTING
from hospital.store.prior_searches import PriorOutcome, PriorSearch
from hospital.store.received import PatientId
from hospital.store.state import Delivery, DeliveryStage, Revision, StudyStage, StudyState
from tests.hospital.clock import START
from tests.hospital.received_samples import ACCESSION, PATIENT, STUDY, instance, raw
from tests.hospital.running.settings_sample import settings

STATE = StudyState(STUDY, PATIENT, ACCESSION, StudyStage.FAILED, START, START, route="chest", problem="no image")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """That of a gateway.yaml in the working folder."""
    monkeypatch.chdir(tmp_path)
    opened = Store(store_location(settings(tmp_path)))
    yield opened
    opened.close()


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["gateway", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_store_that_is_not_there_yet_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings(tmp_path)

    assert main(["gateway", "studies", "list"]) == 2
    assert "must be the key of a store: there is none yet" in capsys.readouterr().err
    assert not (tmp_path / "store.key").exists()


@pytest.mark.parametrize("command", [("studies", "list"), ("check", "gateway.yaml"), ("run", "gateway.yaml")])
def test_a_store_whose_key_is_lost_is_refused_and_gets_no_other(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    store.studies.save(STATE)
    (tmp_path / "store.key").unlink()

    assert main(["gateway", *command]) == 2
    error = capsys.readouterr().err
    lost = InputError(SETTING, str(tmp_path / "store.key"), "must be the key of sqlite:///")
    assert str(lost) in error
    assert "has rows" in error
    assert "makes it" not in error
    assert not (tmp_path / "store.key").exists()


def test_studies_are_listed_by_stage(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.studies.save(STATE)

    (line,) = asked(capsys, "studies", "list", "--stage", "failed")
    assert line == {
        "study": STUDY,
        "accession": "A-1001",
        "patient": "MRN-4711",
        "stage": "failed",
        "route": "chest",
        "received": "2026-03-02 08:00:00",
        "due": None,
        "problem": "no image",
    }
    assert asked(capsys, "studies", "list", "--stage", "answered") == []
    assert main(["gateway", "studies", "list"]) == 0
    assert "no image" in capsys.readouterr().out
    assert main(["gateway", "studies", "list", "--stage", "done"]) == 2
    assert "must be one of assembling, requested, answered, failed, ignored" in capsys.readouterr().err


def test_a_study_is_shown_with_its_revisions(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.inbox.add(instance())
    store.studies.answer(STATE, Revision("r1", STUDY, 1, START, {}, b"{}"), [])

    shown = asked(capsys, "studies", "show", STUDY)

    assert shown["instances"] == 1
    assert shown["revisions"] == [{"number": 1, "time": "2026-03-02 08:00:00", "revision": "r1"}]
    assert main(["gateway", "studies", "show", STUDY]) == 0
    assert "r1" in capsys.readouterr().out
    assert main(["gateway", "studies", "show", "1.2"]) == 2
    assert "must be a study of this gateway" in capsys.readouterr().err


def test_the_priors_of_a_study_are_shown_with_how_far_they_are(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.studies.save(STATE)
    search = PriorSearch(STUDY, "chest", "main", "chest", (PATIENT,), START, START, None, problem="pacs: no answer")
    found = search.with_found([("pacs", "1.2.3"), ("archive", "1.2.4")])
    store.priors.begin(found.with_outcome("1.2.4", PriorOutcome.FAILED, "1 of 2 objects of a prior are not here"))

    shown = asked(capsys, "studies", "show", STUDY)

    assert shown["priors"] == [
        {"study": "1.2.3", "source": "pacs", "outcome": "found", "reason": None},
        {
            "study": "1.2.4",
            "source": "archive",
            "outcome": "failed",
            "reason": "1 of 2 objects of a prior are not here",
        },
    ]
    assert (shown["priors_due"], shown["priors_problem"]) == (None, "pacs: no answer")
    assert main(["gateway", "studies", "show", STUDY]) == 0
    assert "not here" in capsys.readouterr().out


def test_a_study_can_be_ignored_and_taken_up_again(store: Store) -> None:
    store.studies.save(STATE)

    assert main(["gateway", "studies", "ignore", STUDY]) == 0
    ignored = store.studies.get(STUDY)
    assert ignored is not None
    assert (ignored.stage, ignored.by_hand, ignored.due) == (StudyStage.IGNORED, True, None)

    assert main(["gateway", "studies", "replay", STUDY]) == 0
    replayed = store.studies.get(STUDY)
    assert replayed is not None
    assert (replayed.stage, replayed.by_hand, replayed.problem) == (StudyStage.ASSEMBLING, False, None)
    assert store.studies.due() == [replayed]


def test_what_was_not_understood_is_listed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.studies.save(STATE)
    store.inbox.add(raw=raw("1", problem="PID-3 must hold an identifier"))
    store.inbox.add(raw=raw("2"))
    store.outbox.put([Delivery("r1", "record", "bundle", b"", STUDY, "r1", problem="no identifier of ward")])

    listed = asked(capsys, "unmatched")

    assert [one["problem"] for one in listed["messages"]] == ["PID-3 must hold an identifier"]
    assert [one["problem"] for one in listed["studies"]] == ["no image"]
    assert listed["results"] == [
        {"number": 1, "destination": "record", "study": STUDY, "problem": "no identifier of ward"}
    ]
    assert main(["gateway", "unmatched"]) == 0
    assert "PID-3 must hold an identifier" in capsys.readouterr().out


def test_a_dead_delivery_is_sent_again_or_dropped(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.outbox.put([Delivery(key, "archive", "sr", b"SR", STUDY) for key in ("a", "b")])
    store.outbox.dead(1, "status 0xA900")
    store.outbox.sent(2)

    (dead,) = asked(capsys, "outbox", "list")
    assert (dead["number"], dead["stage"], dead["attempts"], dead["problem"]) == (1, "dead", 1, "status 0xA900")
    assert len(asked(capsys, "outbox", "list", "--all")) == 2
    assert asked(capsys, "outbox", "list", "--destination", "other") == []

    assert main(["gateway", "outbox", "retry", "1"]) == 0
    assert store.outbox.counts()[("archive", DeliveryStage.WAITING)] == 1
    assert main(["gateway", "outbox", "drop", "1"]) == 0
    assert store.outbox.counts()[("archive", DeliveryStage.DROPPED)] == 1
    assert main(["gateway", "outbox", "retry", "2"]) == 2
    assert "it is sent" in capsys.readouterr().err


LABORATORY = """
hl7:
  clinic: {listen: "127.0.0.1:2575", senders: {lis: {networks: [127.0.0.1], patient_issuer: ward}}}
identifiers: {ward: {known_as: [WARD]}}
"""
LOCAL_CODES = "local_codes: [{system: L, code: CRP, means: 1988-5}]\n"
ORU = (
    b"MSH|^~\\&|LIS|H|G|H|20260302080000||ORU^R01|7|P|2.5.1\rPID|1||4711^^^WARD^MR\r"
    b"OBR|1||F1|CHEM|||20260302073000\rOBX|1|NM|CRP^^L||112|mg/L|||||F\r"
)
WARD = PatientId("4711", "ward")


def test_a_message_is_read_again_with_the_tables_of_now(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = settings(tmp_path, LABORATORY)
    Receiver(hl7_source(given, "lis"), store.inbox, clock=store.clock).receive(Frame(ORU, whole=True))
    (before,) = store.records.observations([WARD])
    assert (before.code, before.value, before.text) == (None, None, "112")

    settings(tmp_path, LABORATORY + LOCAL_CODES)
    (message,) = asked(capsys, "messages", "list")
    assert (message["number"], message["source"], "112" in json.dumps(message)) == (1, "lis", False)
    store.records.mark_handled([one.number for one in store.records.unhandled()])
    assert asked(capsys, "messages", "replay", "1") == [{"number": 1, "records": 1, "problem": None}]

    (after,) = store.records.observations([WARD])
    assert (after.code, after.value, after.problem) == ("1988-5", 112.0, None)
    assert [one.record for one in store.records.unhandled()] == [after], "studies of it are looked at again"
    asked(capsys, "messages", "replay", "1")
    assert store.records.observations([WARD]) == [after]


def test_a_message_that_was_refused_is_taken_once_it_can_be_read(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings(tmp_path, LABORATORY + LOCAL_CODES)
    store.inbox.add(raw=raw(content=ORU, problem="PID-3 must hold an identifier of the patient"))
    assert len(asked(capsys, "messages", "list", "--problems")) == 1

    assert asked(capsys, "messages", "replay", "1") == [{"number": 1, "records": 1, "problem": None}]

    assert asked(capsys, "messages", "list", "--problems") == []
    assert [one.value for one in store.records.observations([WARD])] == [112.0]


def test_a_message_that_is_not_there_or_of_nobody_is_not_replayed(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings(tmp_path, LABORATORY)
    store.inbox.add(raw=raw(content=ORU, source="gone"))

    assert main(["gateway", "messages", "replay", "9"]) == 2
    assert "must be the number of an HL7 message" in capsys.readouterr().err
    assert main(["gateway", "messages", "replay", "1"]) == 2
    assert "sender: got 'gone', must be one of `hl7`: lis" in capsys.readouterr().err
