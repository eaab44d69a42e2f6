"""A year in small: four months of a made-up hospital, walked through by the loop as `consilium demo --loop` does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from consilium.artifacts.embedded_store import sqlite_url
from consilium.artifacts.model_registry import resolve
from consilium.cli.loop.story import run_year
from consilium.cli.loop.year import Year
from consilium.cli.loop.year_report import DOCUMENT, FIGURE, Event, YearReport

SMALL = Year(months=4, at_start=500, a_month=120, scanner_month=3, prevalence_month=9)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, YearReport, list[Event]]:
    """The folder, the report, and what was told on the way."""
    told: list[Event] = []
    folder = tmp_path_factory.mktemp("loop") / "year"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONSILIUM_HOME", str(folder.parent / "home"))
        report = run_year(SMALL, folder, told.append)
    return folder, report, told


def test_what_is_told_is_the_report_in_the_order_of_time(walked: tuple[Path, YearReport, list[Event]]) -> None:
    _, report, told = walked
    assert told == report.events
    assert [one.time for one in told] == sorted(one.time for one in told)
    assert (told[0].kind, told[0].version, told[0].time) == ("promoted", "1", SMALL.begin(1))


def test_the_monitor_alarms_of_the_new_scanner_and_not_before(walked: tuple[Path, YearReport, list[Event]]) -> None:
    events = walked[1].events
    looks = [(one.kind, one.time) for one in events if one.kind in {"monitor", "alarm"}]
    assert looks[:3] == [("monitor", SMALL.begin(2)), ("monitor", SMALL.begin(3)), ("alarm", SMALL.begin(4))]
    assert "device is distributed otherwise" in next(one.text for one in events if one.kind == "alarm")


def test_the_gate_refuses_what_learned_slipped_labels(walked: tuple[Path, YearReport, list[Event]]) -> None:
    of_second = {one.kind: one.text for one in walked[1].events if one.version == "2"}
    assert set(of_second) == {"trained", "gate refused"}
    assert "slipped" in of_second["trained"]
    assert "champion, frozen test set" in of_second["gate refused"]


def test_whoever_is_promoted_passed_gates_and_rollout_and_a_slow_one_never_is(
    walked: tuple[Path, YearReport, list[Event]],
) -> None:
    steps: dict[str, list[str]] = {}
    for one in walked[1].events:
        steps.setdefault(one.version, []).append(one.kind)
    assert steps["3"][:2] in (["trained", "gate passed"], ["trained", "gate refused"])
    assert "promoted" not in steps["3"]
    assert ("stopped" in steps["3"]) == ("gate passed" in steps["3"])
    for version, found in steps.items():
        if "promoted" in found and version != "1":
            assert found[: found.index("promoted")] == ["trained", "gate passed", "rollout", "rollout"]


def test_the_registry_has_what_the_year_ended_with(
    walked: tuple[Path, YearReport, list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, report, _ = walked
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_url(folder / "mlruns" / "mlflow.db"))
    assert report.first == "1"
    assert report.last == [one.version for one in report.events if one.kind == "promoted"][-1]
    assert resolve("models:/consilium-phantom-loop@champion").identity.version == report.last


def test_months_are_measured_with_the_loop_and_without(walked: tuple[Path, YearReport, list[Event]]) -> None:
    folder, report, _ = walked
    assert [month["month"] for month in report.months] == [1, 2, 3, 4]
    assert all(0.5 < month[which]["auroc"] < 1 for month in report.months for which in ("with_loop", "without"))
    # Until another model serves, both are the first.
    assert all(month["with_loop"] == month["without"] for month in report.months[:3])
    assert json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))["last_champion"] == report.last
    assert (folder / FIGURE).read_bytes().startswith(b"\x89PNG")
