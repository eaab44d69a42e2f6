"""Whether a version goes on, waits or is stopped, by counts whose right verdict is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from consilium.domain.errors import InputError
from service.rollout.rollout_evidence import Arm, Evidence
from service.rollout.rollout_plan import RolloutPlan, Stage, read_plan
from service.rollout.rollout_verdict import Action, judge

BEGUN = datetime(2026, 5, 1, tzinfo=UTC)
DAY_LATER = BEGUN + timedelta(hours=24)
STAGE = {"role": "canary", "share": 0.1, "hours": 24, "answers": 100}


def plan(**stop: float) -> RolloutPlan:
    return read_plan({"stages": [STAGE], "stop": stop})


def verdict(plan: RolloutPlan, evidence: Evidence, now: datetime = DAY_LATER) -> Action:
    return judge(plan, plan.stages[0], evidence, BEGUN, now).action


def arm(answers: int = 0, referred: int = 0, confirmed: int = 0, wrong: int = 0, ms: float = 20) -> Arm:
    return Arm(answers, referred, confirmed, wrong, [ms] * answers)


def test_a_version_goes_on_when_time_and_answers_are_enough_and_it_looks_no_worse() -> None:
    rules, same = plan(referral=0.1, latency=1.5), arm(500, 50)
    assert verdict(rules, Evidence(same, arm(500, 60))) is Action.ADVANCE
    assert verdict(rules, Evidence(same, arm(500, 60)), DAY_LATER - timedelta(minutes=1)) is Action.WAIT
    assert verdict(rules, Evidence(same, arm(99, 10))) is Action.WAIT
    assert verdict(rules, Evidence(same, arm(500, 110))) is Action.WAIT  # .12 more often, which may be chance


def test_a_version_is_stopped_where_a_rule_is_broken_beyond_chance() -> None:
    assert verdict(plan(referral=0.1), Evidence(arm(2000, 200), arm(2000, 700))) is Action.STOP
    assert verdict(plan(errors=0.1), Evidence(arm(9, 0, 2000, 200), arm(9, 0, 2000, 700))) is Action.STOP
    assert verdict(plan(latency=1.5), Evidence(arm(100), arm(100, ms=31))) is Action.STOP
    assert verdict(plan(latency=1.5), Evidence(arm(100), arm(10, ms=31))) is Action.WAIT
    shadow = read_plan({"stages": [STAGE | {"role": "shadow", "share": None}], "stop": {"agreement": 0.9}})
    assert verdict(shadow, Evidence(arm(1000), arm(1000), 1000, 700)) is Action.STOP
    assert verdict(shadow, Evidence(arm(1000), arm(1000), 1000, 950)) is Action.ADVANCE
    assert verdict(shadow, Evidence(arm(1000), arm(1000), 20, 17)) is Action.WAIT


def test_a_version_that_is_just_allowed_is_rarely_stopped_however_often_one_looks() -> None:
    rng, stopped = np.random.default_rng(0), 0
    rules = plan(referral=0.1)
    for _ in range(200):
        mine, theirs = np.cumsum(rng.random((2, 1000)) < np.array([[0.3], [0.2]]), axis=1)
        looks = range(10, 1000, 10)
        actions = {verdict(rules, Evidence(arm(n, int(theirs[n - 1])), arm(n, int(mine[n - 1])))) for n in looks}
        stopped += Action.STOP in actions
    assert stopped <= 200 * rules.alpha


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"stages": [STAGE], "stop": {"agrement": 0.9}}, "plan.stop.agrement: .*nearest is 'agreement'"),
        ({"stages": [], "stop": {}}, "plan.stages: .*at least 1"),
        ({"stages": [STAGE | {"share": 2}], "stop": {}}, "plan.stages.0.share: got 2, must be less than or equal to 1"),
        ({"stages": [STAGE | {"role": "shadow"}], "stop": {}}, "plan.stages.0: .*share where it is a canary"),
        ({"stages": [STAGE | {"hour": 1}], "stop": {}}, "plan.stages.0.hour: .*nearest is 'hours'"),
    ],
)
def test_a_wrong_plan_is_refused_by_its_key(data: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_plan(data)


def test_stages_are_named_for_readers() -> None:
    assert Stage(**STAGE).title == "canary 10%"
