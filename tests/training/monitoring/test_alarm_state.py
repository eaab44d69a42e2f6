from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from consilium.domain.errors import InputError
from training.monitoring.alarm_state import Alarm, AlarmState, load_state, save_state
from training.monitoring.alarms import DAY, YEAR_DAYS, AlarmRule, StreamEvidence

NOON = 1_000 * DAY + DAY / 2
ALARM = Alarm("features", "image 1", "1972-10-01", 20.0, 0.001)


def crossing(block: int, evidence: float) -> StreamEvidence:
    blocks = np.arange(block + 1)
    return StreamEvidence("features", "image 1", 50, blocks, np.where(blocks == block, evidence, 0.0), 0.001)


def test_tests_start_at_midnight_before_the_first_answer_and_anew_each_year() -> None:
    state = AlarmState().seen(NOON).seen(NOON + 5 * DAY)
    assert state.started(NOON + 3 * DAY) == (1_000 * DAY, True)
    year = 1_000 * DAY + YEAR_DAYS * DAY
    assert state.started(year) == (1_000 * DAY, True)
    assert state.started(year + 1) == (year, True)


def test_an_accepted_change_starts_the_tests_the_day_after_without_the_held_out_studies() -> None:
    state = AlarmState(1_000 * DAY, (ALARM,)).accept(NOON + 10 * DAY, "new scanner")
    assert state.alarms == ()
    assert state.accepted[0].alarms == ("features image 1",)
    assert state.started(NOON + 30 * DAY) == (1_011 * DAY, False)
    assert state.started(NOON + 9 * DAY) == (1_000 * DAY, True)


def test_an_alarm_keeps_its_day_and_its_strongest_evidence() -> None:
    state = AlarmState(0.0).raised([crossing(4, 9.0)], 0.0, AlarmRule())
    assert [(one.since, one.log_e_value) for one in state.alarms] == [("1970-01-05", 9.0)]
    later = state.raised([crossing(7, 8.0)], 0.0, AlarmRule())
    assert [(one.since, one.log_e_value) for one in later.alarms] == [("1970-01-05", 9.0)]
    assert later.raised([], 0.0, AlarmRule()) == later


def test_too_little_evidence_raises_nothing() -> None:
    assert AlarmState(0.0).raised([crossing(4, np.log(999))], 0.0, AlarmRule()).alarms == ()


@pytest.mark.parametrize(("alarms", "reason"), [((), "why"), ((ALARM,), " ")])
def test_accepting_needs_an_alarm_and_a_reason(alarms: tuple[Alarm, ...], reason: str) -> None:
    with pytest.raises(InputError):
        AlarmState(0.0, alarms).accept(1.0, reason)


def test_the_state_of_each_model_is_kept_by_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "alarms.json"
    first = AlarmState(0.0, (ALARM,)).accept(5.0, "why").raised([crossing(2, 9.0)], 0.0, AlarmRule())
    save_state(path, "a", first)
    save_state(path, "b", AlarmState(DAY))
    assert load_state(path, "a") == first
    assert load_state(path, "b") == AlarmState(DAY)
    assert load_state(path, "c") == AlarmState()


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "other", "models": {}}', '{"format": "alarm-state-1"}'])
def test_a_file_that_is_no_state_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "alarms.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"alarms\.json"):
        load_state(path, "a")
