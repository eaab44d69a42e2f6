from __future__ import annotations

import numpy as np
import pytest

from consilium.calibration import operating_point, patient_bootstrap
from consilium.domain.errors import TrainingError


def test_operating_point_by_hand() -> None:
    labels = np.array([1.0] * 10 + [0.0] * 4 + [np.nan])
    scores = np.array([0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.5, 0.1, 0.62, 0.4, 0.3, 0.05, 0.45])
    point = operating_point(labels, scores, 0.9, patient_bootstrap(np.arange(15), 100, 0))
    assert point.threshold == pytest.approx(0.45)  # halfway between .5, the ninth positive, and .4
    assert (point.sensitivity.value, point.specificity.value) == (0.9, 0.75)
    with pytest.raises(TrainingError):
        operating_point(labels[:10], scores[:10], 0.9, np.ones((1, 10)))


def test_it_reaches_its_target_and_no_higher_threshold_does() -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random(3000) < 0.3).astype(float)
    p = 1 / (1 + np.exp(-(rng.normal(size=3000) + 2 * labels - 1.5)))
    point = operating_point(labels, p, 0.9, patient_bootstrap(np.arange(3000), 300, 0))
    scores = p[labels == 1]
    assert np.mean(scores >= point.threshold) == point.sensitivity.value >= 0.9
    assert np.mean(scores > scores[scores >= point.threshold].min()) < 0.9
    assert np.mean(p[labels == 0] < point.threshold) == pytest.approx(point.specificity.value)
    assert point.specificity.low < point.specificity.value < point.specificity.high
    # The interval of a share of n studies, by the normal approximation.
    width = 2 * 1.96 * np.sqrt(point.sensitivity.value * (1 - point.sensitivity.value) / len(scores))
    assert point.sensitivity.high - point.sensitivity.low == pytest.approx(width, rel=0.3)


def test_bootstrap_draws_patients_with_all_their_studies() -> None:
    patients = np.array(["a", "a", "b", "c", "c", "c"])
    weights = patient_bootstrap(patients, 500, 3)
    assert (weights[0] == 1).all()
    assert np.array_equal(weights[:, 0], weights[:, 1])
    assert np.array_equal(weights[:, 3], weights[:, 5])
    assert (weights[1:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert np.array_equal(weights, patient_bootstrap(patients, 500, 3))
    assert not np.array_equal(weights, patient_bootstrap(patients, 500, 4))
