from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit

from consilium.calibration.steps import StepCalibration, fit_steps
from consilium.domain.errors import InputError, TrainingError
from consilium.domain.targets import OrdinalTarget, SurvivalTarget

TARGETS = (OrdinalTarget("severity", "Severity", ("none", "mild", "severe")), SurvivalTarget("death", "Death", (30.0,)))


def _made(studies: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, overconfident logits and the true log-odds."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(studies, 3)) + 0.5
    labels = (rng.random(truth.shape) < expit(truth)).astype(float)
    labels[labels[:, 0] == 0, 1] = np.nan
    return labels, 3 * truth - 1, truth


def test_overconfident_steps_are_brought_to_the_truth() -> None:
    labels, logits, truth = _made(4000)
    fitted = fit_steps(TARGETS, labels, {"text": logits})
    expected = expit(truth)
    expected[:, 1] *= expected[:, 0]
    assert np.abs(fitted.passed(logits, "text") - expected).mean() < 0.02


def test_what_is_passed_never_rises_within_a_target() -> None:
    labels, logits, _ = _made(300)
    passed = fit_steps(TARGETS, labels, {"text": logits}).passed(logits, "text")
    assert (passed[:, 1] <= passed[:, 0]).all()
    assert (passed[:, 2] > passed[:, 1]).any(), "the next target begins anew"


def test_without_a_modality_the_answer_is_the_prior_and_absence_stays_absent() -> None:
    labels, logits, _ = _made(300)
    fitted = fit_steps(TARGETS, labels, {"text": logits})
    prior = np.nanmean(labels, axis=0)
    assert fitted.passed(np.full((1, 3), np.nan), "none")[0] == pytest.approx(
        [prior[0], prior[0] * prior[1], prior[2]], abs=0.01
    )
    assert np.isnan(fitted.passed(np.full((1, 3), np.nan), "text")).all()


def test_a_step_that_nobody_passed_cannot_be_calibrated() -> None:
    labels, logits, _ = _made(300)
    labels[:, 1] = np.where(np.isnan(labels[:, 1]), np.nan, 0)
    with pytest.raises(TrainingError, match=r"severity: .* 'above mild', 0 passed it"):
        fit_steps(TARGETS, labels, {"text": logits})


def test_it_comes_back_from_json_to_the_bit_and_is_checked() -> None:
    labels, logits, _ = _made(300)
    fitted = fit_steps(TARGETS, labels, {"text": logits})
    again = StepCalibration.from_json(json.loads(json.dumps(fitted.to_json())), TARGETS)
    assert again == fitted
    again.require_sound("calibration.steps")
    with pytest.raises(InputError, match=r"of 2 steps|finite"):
        StepCalibration(TARGETS[:1], fitted.scaling, fitted.prior_log_odds).require_sound("calibration.steps")
