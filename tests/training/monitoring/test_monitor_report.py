"""What a run of the monitor writes: a page, JSON and gauges."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest

from consilium.monitoring.reference import MonitoringReference
from tests.training.monitoring.answers_made import MONDAY, made_answers, made_model, made_reference
from training.monitoring.alarm_state import Alarm, AlarmState
from training.monitoring.alarms import DAY
from training.monitoring.monitor import MonitorResult, watch
from training.monitoring.output.monitor_gauges import gauges
from training.monitoring.output.monitor_report import LATEST, REPORT, as_document, report_page, write_files
from training.monitoring.output.wording import alarm_sentence

GAUGES = ("alarms", "alarm", "evidence", "prevalence")
UNTIL = MONDAY.timestamp() + 20 * DAY


@pytest.fixture(scope="module")
def reference() -> MonitoringReference:
    return made_reference()


@pytest.fixture(scope="module")
def quiet(reference: MonitoringReference) -> MonitorResult:
    return watch(made_model(reference), made_answers(reference, 20), AlarmState(), UNTIL, UNTIL - 7 * DAY)


@pytest.fixture(scope="module")
def alarmed(quiet: MonitorResult, reference: MonitoringReference) -> MonitorResult:
    raised = Alarm("features", "image 1", "2026-06-10", 900.0, 0.001), Alarm("referral", "", "2026-06-11", 8.0, 0.001)
    state = AlarmState(MONDAY.timestamp(), raised)
    return watch(made_model(reference), made_answers(reference, 20), state, UNTIL, UNTIL - 7 * DAY)


def test_a_quiet_model_has_no_alarm_and_all_its_tables(quiet: MonitorResult) -> None:
    document = as_document(quiet)
    assert document["alarms"] == []
    assert (document["model"], document["version"], document["answers"]) == ("consilium-made", "3", 700)
    assert document["until"] == "2026-06-21T00:00:00+00:00"
    assert all(
        document["tables"][name] for name in ("univariate", "multivariate", "prior_shift", "expected", "by_group")
    )


def test_the_answers_of_the_day_that_is_not_over_do_not_count(reference: MonitoringReference) -> None:
    noon = UNTIL - DAY / 2
    found = watch(made_model(reference), made_answers(reference, 20), AlarmState(), noon)
    assert max(one.blocks.max() for one in found.tested if len(one.blocks)) == 18
    assert found.tested_answers < 2000


def test_alarms_that_stand_are_told_in_a_sentence_and_survive_json(alarmed: MonitorResult) -> None:
    first, second = json.loads(json.dumps(as_document(alarmed), allow_nan=False))["alarms"]
    assert first["sentence"].startswith("Since 2026-06-10: features of the image, direction 1 are distributed")
    assert first["e_value"] > 1e299
    assert second["sentence"].startswith("Since 2026-06-11: studies are referred more or less often than")


@pytest.mark.parametrize(
    "kind",
    ["probability", "typicality", "features", "held-out features", "calibration"],
)
def test_every_kind_of_alarm_has_a_sentence(kind: str, quiet: MonitorResult) -> None:
    found = alarm_sentence(Alarm(kind, "effusion", "2026-06-10", 7.0, 0.001), quiet.model.findings)
    assert "Pleural effusion" in found
    assert found.endswith("evidence 1.1e+03, alarm from 1000.")


def test_the_page_runs_no_script_and_fetches_nothing(alarmed: MonitorResult) -> None:
    page = report_page(alarmed)
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "2 alarms" in page
    for heading in ("Alarms", "How recent answers differ", "Expected performance, without outcomes"):
        assert heading in page
    assert "valid only without concept shift" in page


def test_gauges_name_every_alarm_and_every_test(alarmed: MonitorResult) -> None:
    found = gauges(alarmed)
    by_name = {name: [one for one in found if one["name"] == f"consilium_monitor_{name}"] for name in GAUGES}
    assert [one["value"] for one in by_name["alarms"]] == [2]
    assert {one["labels"]["kind"] for one in by_name["alarm"]} == {"features", "referral"}
    assert len(by_name["evidence"]) == len(alarmed.tested)
    assert {one["labels"]["finding"] for one in by_name["prevalence"]} == {"pneumonia", "effusion"}


def test_files_are_whole_and_the_same_when_written_again(alarmed: MonitorResult, tmp_path: Path) -> None:
    write_files(alarmed, tmp_path)
    first = {name: (tmp_path / name).read_bytes() for name in (LATEST, REPORT)}
    write_files(alarmed, tmp_path)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == first
    assert stat.S_IMODE((tmp_path / LATEST).stat().st_mode) == 0o600
