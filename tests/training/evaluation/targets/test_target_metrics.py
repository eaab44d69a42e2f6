from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.domain.targets import OrdinalTarget, SurvivalTarget
from training.evaluation.rows import AS_PRESENT, fused
from training.evaluation.targets.target_metrics import concordance, integrated, known_passes, target_tables

GRADES = OrdinalTarget("severity", "Severity", ("none", "mild", "severe"))
TIMES = SurvivalTarget("death", "Death", (2.0, 4.0))


def _pairs(value: np.ndarray, observed: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
    """Harrell's C, pair by pair."""
    agree = total = 0.0
    for i in range(len(value)):
        for j in range(len(value)):
            known = observed[i] and (value[i] < value[j] or (value[i] == value[j] and not observed[j]))
            if known:
                total += weight[i] * weight[j]
                agree += weight[i] * weight[j] * (1.0 if score[i] < score[j] else 0.5 * (score[i] == score[j]))
    return agree / total if total else float("nan")


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=12)
)
def test_concordance_counts_every_pair_of_which_the_order_is_known(rows: list[tuple[int, bool, int, int]]) -> None:
    value, observed, score, weight = (np.array(column) for column in zip(*rows, strict=True))
    weights = np.stack([np.ones(len(rows)), weight]).astype(float)
    found = concordance(value.astype(float), observed.astype(bool), score.astype(float), weights)
    expected = [_pairs(value, observed, score, own) for own in weights]
    assert found == pytest.approx(expected, nan_ok=True)


def test_who_is_lost_counts_through_those_like_him() -> None:
    """Kaplan and Meier by hand: of four, one is lost at 1 and the others stand for four."""
    outcomes = np.array([[1.0, 0], [1.5, 1], [3.0, 0], [5.0, 1]])
    labels, weights = known_passes(TIMES, outcomes)
    assert np.array_equal(labels, [[np.nan, np.nan], [0, 0], [1, np.nan], [1, 1]], equal_nan=True)
    assert weights == pytest.approx(np.array([[0, 0], [4 / 3, 4 / 3], [4 / 3, 0], [4 / 3, 8 / 3]]))


def test_censoring_does_not_move_the_brier_score() -> None:
    rng = np.random.default_rng(0)
    died, lost = rng.exponential(4, 5_000), rng.exponential(6, 5_000)
    chances = np.exp(-np.array(TIMES.horizons) / 4) * np.ones((len(died), 1))
    whole = np.column_stack([died, np.ones_like(died)])
    censored = np.column_stack([np.minimum(died, lost), died <= lost])
    weights = np.ones((1, len(died)))
    of_whole, of_censored = (
        target_tables((TIMES,), outcomes[:, None], {AS_PRESENT: chances}, weights)["targets"]
        for outcomes in (whole, censored)
    )
    assert of_whole["brier"].item() == pytest.approx(of_censored["brier"].item(), abs=0.01)
    briers = [np.mean((chances[:, k] - (died > horizon)) ** 2) for k, horizon in enumerate(TIMES.horizons)]
    assert of_whole["brier"].item() == pytest.approx((briers[0] + (briers[0] + briers[1])) / 4)


def test_grades_have_the_ranked_probability_score() -> None:
    outcomes = np.array([[[0.0, 1]], [[2.0, 1]], [[np.nan, np.nan]]])
    chances = np.array([[0.4, 0.1], [0.9, 0.7], [0.5, 0.5]])
    tables = target_tables((GRADES,), outcomes, {AS_PRESENT: chances, fused("text"): chances * np.nan}, np.ones((2, 3)))
    (line,) = tables["targets"].to_dict("records")
    assert line["brier"] == pytest.approx(np.mean([0.4**2 + 0.1**2, 0.1**2 + 0.3**2]) / 2)
    assert (line["n"], line["observed"], line["concordance"]) == (2, 2, 1.0)
    assert tables["target_steps"]["step"].tolist() == ["above none", "above mild"]
    assert tables["target_steps"]["auroc"].tolist() == [1.0, 1.0]


def test_of_times_the_score_is_integrated() -> None:
    assert integrated(TIMES, np.array([[0.1], [0.3]])) == pytest.approx([(0.1 + 0.4) / 4])


def test_nothing_known_gives_no_table() -> None:
    assert target_tables((GRADES,), np.full((3, 1, 2), np.nan), {AS_PRESENT: np.ones((3, 2))}, np.ones((1, 3))) == {}
