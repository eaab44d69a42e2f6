from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from consilium.monitoring.reference import MonitoringReference
from tests.training.monitoring.answers_made import made_model, made_reference, made_table, moved
from training.monitoring.alarms import DAY, YEAR_DAYS, AlarmRule, StreamEvidence, _outcome_bets, run_tests
from training.monitoring.answers import AnswerTable
from training.monitoring.betting import capital_after_change


@pytest.fixture(scope="module")
def reference() -> MonitoringReference:
    return made_reference()


def evidence(
    table: AnswerTable, reference: MonitoringReference | None, days: int, rule: AlarmRule | None = None
) -> dict[str, StreamEvidence]:
    start = table.times[0] // DAY * DAY
    return {one.name: one for one in run_tests(table, reference, 0.07, start, start + days * DAY, rule)}


def test_a_quiet_month_raises_no_alarm(reference: MonitoringReference) -> None:
    found = evidence(made_table(reference, 30), reference, 30)
    assert [name for name, one in found.items() if one.crossed is not None] == []


def test_alpha_is_divided_among_all_tests(reference: MonitoringReference) -> None:
    found = evidence(made_table(reference, 3), reference, 3)
    assert sum(one.alpha for one in found.values()) == pytest.approx(0.05)
    # findings: 2 probabilities, held-out likewise; 3 parts: typicality, 4 directions, held-out likewise; presence 2;
    # referral; categories sex, site, device; outcomes of 2
    assert len(found) == 2 * 2 + 3 + 3 * 4 * 2 + 2 + 1 + 3 + 2


def test_moved_features_are_found_within_days_and_on_their_own_part(reference: MonitoringReference) -> None:
    table = moved(made_table(reference, 30), "image", 0.8, 2000)
    crossed = {name: one.crossed for name, one in evidence(table, reference, 30).items() if one.crossed is not None}
    assert 20 <= crossed["features image 1"] <= 23
    assert all("image" in name for name in crossed)


def test_answers_unlike_the_held_out_studies_are_found_from_the_first_day(reference: MonitoringReference) -> None:
    table = moved(made_table(reference, 10, a_day=200), "image", 2.5, 0)
    crossed = {name for name, one in evidence(table, reference, 10).items() if one.crossed is not None}
    assert any(name.startswith("held-out features image") for name in crossed)
    assert {name for name, one in evidence(table, None, 10).items() if one.crossed is not None} == set()


def test_a_modality_that_stops_coming_is_found(reference: MonitoringReference) -> None:
    table = made_table(reference, 20)
    text = table.present["text"].copy()
    text[1000:1400] = False
    found = evidence(replace(table, present=table.present | {"text": text}), reference, 20)
    assert found["presence text"].crossed in {10, 11}


def test_a_new_device_is_found(reference: MonitoringReference) -> None:
    table = made_table(reference, 20)
    device = np.where(np.arange(len(table)) < 1000, "a1", "b2")
    found = evidence(replace(table, categories=table.categories | {"device": device}), reference, 20)
    assert found["category device"].crossed in {10, 11}


def test_outcomes_that_probabilities_do_not_foresee_are_found(reference: MonitoringReference) -> None:
    table = made_table(reference, 40)
    labels = table.labels.copy()
    labels[:, 0] = np.where(np.isnan(labels[:, 0]), np.nan, 1.0)
    crossed = {
        name for name, one in evidence(replace(table, labels=labels), reference, 40).items() if one.crossed is not None
    }
    assert crossed == {"calibration pneumonia"}


@pytest.mark.parametrize(("by", "alarms"), [("probability", 0), ("truth", 5)])
def test_confirmation_by_what_the_answer_shows_raises_no_alarm_and_by_what_it_does_not_does(
    by: str, alarms: int, reference: MonitoringReference
) -> None:
    table = made_table(reference, 60, a_day=40, confirmed=1.0)
    shown, truth = table.probabilities[:, 0] >= 0.3, table.labels[:, 0] == 1
    chance = np.where(shown, 0.6, 0.2) if by == "probability" else np.where(truth, 0.6, 0.3)
    begin, end = table.times.min(), table.times.max() + DAY
    crossed = 0
    for seed in range(5):
        confirmed = np.random.default_rng(seed).random(len(table)) < chance
        known = replace(table, labels=np.where(confirmed[:, None], table.labels, np.nan))
        _, _, times, growth = next(_outcome_bets(known, 0.07, begin, end))
        _, capital = capital_after_change(growth, ((times - begin) // DAY).astype(np.int64), YEAR_DAYS)
        crossed += bool(capital.max() >= np.log(20 / 0.05))
    assert crossed == alarms


def test_influenced_reads_raise_no_alarm(reference: MonitoringReference) -> None:
    table = made_table(reference, 20)
    wrong = replace(table, labels=np.where(np.isnan(table.labels), np.nan, 1.0), influenced=np.ones(table.labels.shape))
    assert all(one.crossed is None for one in evidence(wrong, reference, 20).values())


def test_a_day_counts_when_it_is_over(reference: MonitoringReference) -> None:
    table = made_table(reference, 3)
    found = evidence(table, reference, 3)
    assert set(found["referral"].blocks.tolist()) == {0, 1, 2}
    early = evidence(table.select(table.times < table.times[0] // DAY * DAY + 2.5 * DAY), reference, 2)
    np.testing.assert_array_equal(early["referral"].log_capital, found["referral"].log_capital[:2])


def test_of_a_patient_the_first_answer_counts(reference: MonitoringReference) -> None:
    table = made_table(reference, 2)
    patients = np.array([f"p{row // 2}" for row in range(len(table))])
    assert evidence(replace(table, patients=patients), reference, 2)["referral"].count == 100


def test_weekly_blocks_hide_the_order_of_days(reference: MonitoringReference) -> None:
    table = made_table(reference, 28)
    weekend = (np.arange(len(table)) // 100) % 7 >= 5
    text = np.where(weekend, False, True)
    weekly = replace(table, present=table.present | {"text": text})
    assert evidence(weekly, reference, 28)["presence text"].crossed is not None
    assert evidence(weekly, reference, 28, AlarmRule(block_days=7))["presence text"].crossed is None


def test_the_same_answers_give_the_same_evidence_in_any_order(reference: MonitoringReference) -> None:
    table = made_table(reference, 5)
    model = made_model(reference)
    assert model.tolerance > 0.05
    first, second = (evidence(one, reference, 5) for one in (table, made_table(reference, 5)))
    assert [one.log_e_value for one in first.values()] == [one.log_e_value for one in second.values()]
