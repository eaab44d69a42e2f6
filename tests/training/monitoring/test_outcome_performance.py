from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from tests.training.monitoring.answers_made import POINT, made_reference, made_table
from training.monitoring.alarms import DAY
from training.monitoring.answers import AnswerTable
from training.monitoring.confirmation import confirmation_weights, delay_of_outcomes
from training.monitoring.outcome_performance import (
    INFLUENCED,
    NAIVE,
    WEIGHTED,
    OutcomePlan,
    calibration_slope,
    confirmation_table,
    performance_by_group,
    performance_over_time,
)

PLAN = OutcomePlan({"pneumonia": POINT, "effusion": POINT}, 30, 0)


@pytest.fixture(scope="module")
def table() -> AnswerTable:
    return made_table(made_reference(), 40, confirmed=1.0)


def end(table: AnswerTable) -> float:
    return float(table.times[-1]) + 1


def confirmed_by_probability(table: AnswerTable) -> AnswerTable:
    chance = 0.1 + 0.85 * (table.probabilities[:, 0] >= POINT.threshold)
    kept = np.random.default_rng(3).random(len(table)) < chance
    return replace(table, labels=np.where(kept[:, None], table.labels, np.nan))


def test_the_slope_is_one_where_probabilities_are_right_and_half_where_they_are_twice_too_sure() -> None:
    rng = np.random.default_rng(0)
    p = expit(rng.normal(0, 1.2, 4000))
    positive = rng.random(4000) < p
    right, sure = (calibration_slope(expit(k * logit(p)), positive, np.ones(4000)) for k in (1, 2))
    assert right.low < 1 < right.high
    assert sure.value == pytest.approx(right.value / 2)
    assert np.isnan(calibration_slope(np.full(50, 0.3), positive[:50], np.ones(50)).value)


def test_the_delay_is_that_of_nine_in_ten_outcomes(table: AnswerTable) -> None:
    assert delay_of_outcomes(table) == pytest.approx(2 * DAY)
    assert np.isnan(delay_of_outcomes(replace(table, labels=np.full_like(table.labels, np.nan))))


def test_young_answers_do_not_count(table: AnswerTable) -> None:
    found = confirmation_table(table, end(table))
    assert found.old_enough.tolist() == [int((table.times < end(table) - 2 * DAY).sum())] * 2
    assert found.delay_days.tolist() == pytest.approx([2, 2])


def test_weights_undo_that_called_studies_are_confirmed_more_often(table: AnswerTable) -> None:
    whole = performance_over_time(table, float(table.times[0]), end(table), PLAN).iloc[0]
    chosen = confirmed_by_probability(table)
    found = performance_over_time(chosen, float(table.times[0]), end(table), PLAN)
    found = found[found.window == found.window.iloc[0]]
    naive, weighted = (
        found[(found.reads == reads) & (found.finding == "pneumonia")].iloc[0] for reads in (NAIVE, WEIGHTED)
    )
    assert naive.sensitivity > whole.sensitivity + 0.1
    assert weighted.sensitivity == pytest.approx(whole.sensitivity, abs=0.06)
    assert weighted.specificity == pytest.approx(whole.specificity, abs=0.06)


def test_with_nearly_all_confirmed_there_is_nothing_to_weigh(table: AnswerTable) -> None:
    assert confirmation_weights(table, 0, POINT.threshold, np.ones(len(table), bool)) is None
    reads = performance_over_time(table, float(table.times[0]), end(table), PLAN).reads
    assert set(reads) == {NAIVE}


def test_influenced_reads_stand_in_rows_of_their_own(table: AnswerTable) -> None:
    influenced = replace(table, influenced=np.where(np.arange(len(table))[:, None] % 2, 1.0, 0.0) * np.ones((1, 2)))
    found = performance_over_time(influenced, float(table.times[0]), end(table), PLAN)
    counts = found[(found.finding == "pneumonia") & (found.window == found.window.iloc[0])].set_index("reads").n
    assert counts[NAIVE] == pytest.approx(counts[INFLUENCED], abs=2)


def test_sets_of_both_answers_cover_everything_and_empty_ones_nothing(table: AnswerTable) -> None:
    found = performance_over_time(table, float(table.times[0]), end(table), PLAN)
    assert found.coverage.tolist() == [1.0] * len(found)
    none = performance_over_time(replace(table, sets=table.sets * 0), float(table.times[0]), end(table), PLAN)
    assert none.coverage.tolist() == [0.0] * len(none)


def test_groups_have_lines_of_their_own(table: AnswerTable) -> None:
    found = performance_by_group(table, end(table), PLAN)
    assert set(zip(found.kind, found.group, strict=True)) == {("sex", "female"), ("sex", "male"), ("site", "a1")}
    assert (
        found[found.kind == "sex"].groupby("finding").n.sum().tolist()
        == confirmation_table(table, end(table)).confirmed.tolist()
    )
