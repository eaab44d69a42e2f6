"""`consilium audit-log`, from its arguments to what it prints."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from consilium.api.schemas import FeedbackRequest
from consilium.cli import main
from service.audit_log.database import Database, read_url
from service.audit_log.entries import Entry
from service.audit_log.pseudonyms import read_keys
from service.audit_log.store import Store
from tests.service.audit_log.samples import PATIENT, STUDY_UID, entry
from tests.service.no_room import no_room

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def recorded(embedded_audit_log: Path) -> list[Entry]:
    """An old answer of version 7 about our patient, a new one of version 8 about another, in the embedded record."""
    old = entry(time=datetime.now(UTC) - timedelta(days=400))
    new = entry(patient="MRN-1", version="8", time=datetime.now(UTC), caller_reference="order-17")
    store = Store(
        Database(read_url(f"sqlite:///{embedded_audit_log / 'audit-log.db'}")),
        read_keys(embedded_audit_log / "audit-log.keys"),
    )
    store.commit([old, new], 60)
    store.add_feedback(FeedbackRequest(result_id=old.result_id, findings={"pneumonia": "absent"}), "key:b")
    store.database.close()
    return [old, new]


def test_no_room_for_a_new_key_is_one_line_and_the_old_ones_stay(embedded_audit_log: Path, capsys: Capture) -> None:
    path = embedded_audit_log / "audit-log.keys"
    before = path.read_bytes()
    with no_room():
        assert main(["audit-log", "new-key"]) == 1
    assert capsys.readouterr().err == f"error: File too large ({path})\n"
    assert path.read_bytes() == before
    assert [one.name for one in embedded_audit_log.iterdir()] == [path.name], "nothing half written is left"
    path.unlink()
    with no_room():
        assert main(["audit-log", "new-key"]) == 1
    assert not path.exists()


def output_of(capsys: Capture, *arguments: str) -> Any:
    assert main(["audit-log", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: Capture, *arguments: str) -> str:
    assert main(["audit-log", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_an_answer_is_shown(recorded: list[Entry], capsys: Capture) -> None:
    old = recorded[0]
    output = output_of(capsys, "show", str(old.result_id))
    assert (output["result_id"], output["caller"]) == (str(old.result_id), "key:ward3")
    assert [line["state"] for line in output["feedback"]] == ["absent"]
    assert main(["audit-log", "show", str(old.result_id)]) == 0
    page = capsys.readouterr().out
    for part in (str(old.result_id), "consilium-fake version 7", "0.800", "referred: A rule.", "pneumonia absent"):
        assert part in page


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (["--model", "consilium-fake"], [0, 1]),
        (["--model", "consilium-fake", "--version", "8"], [1]),
        (["--model", "other"], []),
        (["--patient", PATIENT], [0]),
        (["--patient", f" {PATIENT} "], [0]),
        (["--patient", "MRN-2"], []),
        (["--study", STUDY_UID], [0, 1]),
        (["--reference", "order-17"], [1]),
        (["--model", "consilium-fake", "--wrong"], [0]),
        (["--model", "consilium-fake", "--version", "8", "--wrong"], []),
    ],
)
def test_answers_are_recalled(recorded: list[Entry], capsys: Capture, asked: list[str], found: list[int]) -> None:
    output = output_of(capsys, "recall", *asked)
    assert [line["result_id"] for line in output] == [str(recorded[number].result_id) for number in found]
    assert main(["audit-log", "recall", *asked]) == 0
    *lines, count = capsys.readouterr().out.splitlines()
    assert count == f"{len(found)} answer(s)"
    assert [line.split()[0] for line in lines] == [str(recorded[number].result_id) for number in found]


def test_each_recalled_answer_is_whole_on_one_line(recorded: list[Entry], capsys: Capture) -> None:
    assert main(["audit-log", "recall", "--model", "consilium-fake", "--version", "7"]) == 0
    line, _ = capsys.readouterr().out.splitlines()
    expected = "consilium-fake version 7, asked by key:ward3; called pneumonia, pneumothorax; referred; confirmed"
    assert line.endswith(f" UTC  {expected} pneumonia absent; wrong on pneumonia")


def test_a_patient_is_read_from_standard_input(
    recorded: list[Entry], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PATIENT}\n"))
    assert [line["result_id"] for line in output_of(capsys, "recall", "--patient", "-")] == [str(recorded[0].result_id)]


def test_after_a_new_key_the_patient_is_still_found(
    recorded: list[Entry], embedded_audit_log: Path, capsys: Capture
) -> None:
    first = read_keys(embedded_audit_log / "audit-log.keys").newest.id
    output = output_of(capsys, "new-key")
    assert output["keys"] == [first, output["newest"]]
    assert main(["audit-log", "new-key"]) == 0
    assert "3 in all" in capsys.readouterr().out
    assert len(output_of(capsys, "recall", "--patient", PATIENT)) == 1


def test_old_answers_are_purged(recorded: list[Entry], capsys: Capture) -> None:
    assert output_of(capsys, "purge", "--older-than", "365d") == {"results": 1, "feedback": 1, "replays": 0}
    assert len(output_of(capsys, "recall", "--model", "consilium-fake")) == 1
    assert main(["audit-log", "purge", "--older-than", "1h"]) == 0
    assert "deleted 0 answer(s)" in capsys.readouterr().out


def test_an_audit_log_is_restored_from_its_backup(
    recorded: list[Entry], embedded_audit_log: Path, tmp_path: Path, capsys: Capture
) -> None:
    copy = tmp_path / "copy.db"
    assert output_of(capsys, "backup", str(copy)) == {"backup": str(copy)}
    output = refused(capsys, "restore", str(copy))
    assert output.startswith("error: CONSILIUM_AUDIT_LOG_URL: got ")
    assert "must not exist yet" in output
    for file in embedded_audit_log.glob("audit-log.db*"):
        file.unlink()
    assert main(["audit-log", "restore", str(copy)]) == 0
    assert "audit-log.db" in capsys.readouterr().out
    assert len(output_of(capsys, "recall", "--model", "consilium-fake")) == 2


def test_what_is_no_backup_is_refused(embedded_audit_log: Path, tmp_path: Path, capsys: Capture) -> None:
    empty, text = tmp_path / "empty.db", tmp_path / "notes.txt"
    empty.touch()
    text.write_text("no database at all")
    for file in (empty, text, tmp_path):
        assert "FILE: got" in refused(capsys, "restore", str(file))
    assert not (embedded_audit_log / "audit-log.db").exists()


def test_what_cannot_be_asked_is_named(recorded: list[Entry], capsys: Capture) -> None:
    assert "recall: got 'nothing', must name one of" in refused(capsys, "recall")
    assert "got '--model, --patient'" in refused(capsys, "recall", "--model", "a", "--patient", "b")
    assert "--version: got '7', must come with --model" in refused(capsys, "recall", "--patient", "a", "--version", "7")
    assert "--patient: got 'nothing'" in refused(capsys, "recall", "--patient", " ")
    assert "ID: got 'x', must be a UUID" in refused(capsys, "show", "x")
    assert "must be the id of a recorded answer" in refused(capsys, "show", str(uuid4()))
    assert "--older-than: got '365'" in refused(capsys, "purge", "--older-than", "365")


def test_reading_commands_create_no_audit_log(embedded_audit_log: Path, capsys: Capture) -> None:
    for asked in (["show", str(uuid4())], ["purge", "--older-than", "1d"], ["backup", "copy.db"]):
        assert "there is none yet" in refused(capsys, *asked)
    assert [path.name for path in embedded_audit_log.iterdir()] == ["audit-log.keys"]


def test_a_server_that_cannot_be_reached_is_one_line(
    monkeypatch: pytest.MonkeyPatch, embedded_audit_log: Path, capsys: Capture
) -> None:
    monkeypatch.setenv("CONSILIUM_AUDIT_LOG_URL", "postgresql://u:secret@127.0.0.1:9/record")
    assert main(["audit-log", "purge", "--older-than", "1d"]) == 1
    output = capsys.readouterr().err
    assert output.startswith("error: audit log: ")
    assert output.count("\n") == 1
    assert "secret" not in output
    assert "pg_dump" in refused(capsys, "backup", "file")
