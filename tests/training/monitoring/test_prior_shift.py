from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from consilium.domain.diagnosis import Estimate, OperatingPoint
from tests.training.monitoring.answers_made import made_reference, made_table
from training.monitoring.answers import AnswerTable
from training.monitoring.prior_shift import em_prevalence, prior_shift

TRAINED, SHARPNESS = 0.2, 1.5


def drawn(prevalence: float, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels at `prevalence`, and probabilities that are right at `TRAINED`."""
    rng = np.random.default_rng(seed)
    there = rng.random(count) < prevalence
    evidence = SHARPNESS * (rng.normal(size=count) + SHARPNESS * there - SHARPNESS / 2)
    return there, expit(logit(TRAINED) + evidence)


@pytest.mark.parametrize("prevalence", [0.1, 0.2, 0.5])
def test_a_shifted_prevalence_is_recovered(prevalence: float) -> None:
    _, p = drawn(prevalence, 4000)
    weights = np.ones((1, 4000))
    found = em_prevalence(np.stack([p, 1 - p], axis=1), np.array([TRAINED, 1 - TRAINED]), weights)
    assert found[0, 0] == pytest.approx(prevalence, abs=0.03)
    assert found.sum(axis=1) == pytest.approx(1)


def test_weights_count_answers_as_often() -> None:
    _, p = drawn(0.4, 500)
    both, prior = np.stack([p, 1 - p], axis=1), np.array([TRAINED, 1 - TRAINED])
    weights = np.random.default_rng(0).integers(0, 3, (1, 500)).astype(float)
    repeated = np.repeat(both, weights[0].astype(int), axis=0)
    assert em_prevalence(both, prior, weights) == pytest.approx(
        em_prevalence(repeated, prior, np.ones((1, len(repeated)))), abs=1e-4
    )


def table(prevalence: float) -> AnswerTable:
    made = made_table(made_reference(), 20)
    _, p = drawn(prevalence, len(made))
    return replace(made, probabilities=np.stack([p, p], axis=1))


def found(prevalence: float) -> dict[str, object]:
    there, p = drawn(TRAINED, 20_000, seed=5)
    rates = [float((p[there] >= 0.3).mean()), float((p[~there] < 0.3).mean())]
    sensitivity, specificity = (Estimate(value=r, low=r - 0.02, high=r + 0.02) for r in rates)
    point = OperatingPoint(threshold=0.3, target_sensitivity=0.7, sensitivity=sensitivity, specificity=specificity)
    answers = table(prevalence)
    names = answers.findings
    frame = prior_shift(
        answers,
        dict.fromkeys(names, TRAINED),
        dict.fromkeys(names, point),
        exclusive=False,
        calibrated_on=2000,
        replicates=50,
        seed=0,
    )
    return frame.iloc[0].to_dict()


def test_the_same_prevalence_needs_no_correction() -> None:
    line = found(TRAINED)
    assert not line["shifted"]
    assert line["option"] == ""


def test_another_prevalence_is_named_as_an_option_and_both_estimates_agree() -> None:
    line = found(0.4)
    assert line["shifted"]
    assert str(line["option"]).startswith("--prevalence pneumonia=0.4")
    assert line["estimate_low"] < 0.4 < line["estimate_high"]  # type: ignore[operator]
    assert line["corrected_calls"] == pytest.approx(0.4, abs=0.05)


def test_too_few_answers_give_no_estimate() -> None:
    answers = made_table(made_reference(), 1).select(np.arange(5))
    assert prior_shift(answers, {}, {}, exclusive=False, calibrated_on=2000, replicates=2, seed=0).empty


def test_a_model_that_tells_nothing_of_a_finding_proposes_no_correction() -> None:
    made = made_table(made_reference(), 20)
    rng = np.random.default_rng(0)
    nearly_constant = np.clip(TRAINED + 0.02 + 0.005 * rng.normal(size=(len(made), 2)), 0.01, 0.99)
    names = made.findings
    interval = Estimate(0.8, 0.7, 0.9)
    points = dict.fromkeys(names, OperatingPoint(0.5, 0.9, interval, interval))

    frame = prior_shift(
        replace(made, probabilities=nearly_constant),
        dict.fromkeys(names, TRAINED),
        points,
        exclusive=False,
        calibrated_on=300,
        replicates=100,
        seed=0,
    )

    assert not frame.shifted.any()
    assert (frame.estimate_high - frame.estimate_low > 0.9).all()
