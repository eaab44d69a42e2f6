"""`consilium monitor`: exit codes for cron, and what it says; the audit log is a list of answers here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from consilium.artifacts.artifact import load_artifact
from consilium.artifacts.model_registry import resolve
from consilium.cli import main
from consilium.cli.running import monitor
from consilium.monitoring.monitored_answer import MonitoredAnswer
from tests.training.monitoring.answers_made import made_answers

UNTIL = "2026-06-13"


@pytest.fixture
def answers(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[MonitoredAnswer]:
    """Twelve days of the tiny model's answers, of which the command reads."""
    reference, identity = load_artifact(tiny_folder).monitoring, resolve(str(tiny_folder)).identity
    assert reference is not None
    digest = identity.manifest_digest
    stored = [replace(one, manifest_digest=digest) for one in made_answers(reference, 12)]

    def read(name: str, version: str, since: datetime | None, until: datetime) -> Iterator[MonitoredAnswer]:
        assert (name, version) == (identity.name, identity.version)
        return (one for one in stored if one.time < until)

    monkeypatch.setattr(monitor, "_stored_answers", read)
    return stored


def run(folder: Path, out: Path, *options: str) -> int:
    return main(
        ["monitor", "run", "--model", str(folder), "--out", str(out), "--until", UNTIL, "--no-record", *options]
    )


def test_a_quiet_model_ends_with_0_and_an_alarm_with_3_until_it_is_accepted(
    tiny_folder: Path, tmp_path: Path, answers: list[MonitoredAnswer], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_folder, tmp_path) == 0
    assert capsys.readouterr().out.splitlines() == [
        "No alarm: nothing has changed that the tests can see.",
        f"report: {tmp_path / 'report.html'}",
    ]
    answers[600:] = [replace(one, referred=True) for one in answers[600:]]
    assert run(tiny_folder, tmp_path, "--json") == 3
    alarms = json.loads(capsys.readouterr().out)["alarms"]
    assert [one["since"] for one in alarms if one["name"] == "referral"] == ["2026-06-07"]
    given = ["--model", str(tiny_folder), "--out", str(tmp_path)]
    assert main(["monitor", "accept", *given, "--reason", "a new rule"]) == 0
    assert "accepted: referral" in capsys.readouterr().out.splitlines()
    assert main(["monitor", "accept", *given, "--reason", "again"]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--since", "tomorrow"], "--since: got 'tomorrow', must be a date or time"),
        (["--since", "2026-07-01"], "must be before --until"),
    ],
)
def test_wrong_times_end_with_2(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, tmp_path, *options) == 2
    assert message in capsys.readouterr().err


def test_answers_are_read_from_the_audit_log(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    @contextmanager
    def database() -> Iterator[str]:
        yield "database"

    def stored(*given: object, **options: object) -> Iterator[str]:
        asked.extend([*given, options])
        return iter(["answer"])

    monkeypatch.setattr(monitor, "audit_database", database)
    monkeypatch.setattr("service.audit_log.monitored.monitored_answers", stored)
    until = datetime(2026, 6, 1)
    assert list(monitor._stored_answers("name", "3", None, until)) == ["answer"]
    assert asked == ["database", "name", {"version": "3", "since": None, "until": until}]
