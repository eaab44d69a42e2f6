from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from consilium.calibration.curves import Curve, isotonic_curve, venn_abers_curve
from consilium.calibration.venn_abers import Ordered, venn_abers
from consilium.domain.errors import InputError


@pytest.fixture(scope="module")
def studies() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(scale=2, size=800), 2)
    return scores, rng.random(800) < expit(scores)


def test_a_curve_is_straight_between_its_points_and_parallel_beyond() -> None:
    curve = Curve((-1.0, 0.0, 2.0), (-3.0, 0.5, 1.0))
    asked = np.array([-4.0, -1.0, -0.5, 0.0, 1.0, 2.0, 5.0, np.nan])
    assert np.allclose(curve(asked), [-6.0, -3.0, -1.25, 0.5, 0.75, 1.0, 4.0, np.nan], equal_nan=True)
    assert np.allclose(Curve((1.0,), (2.0,))(np.array([-1.0, 1.0, 4.0])), [0.0, 2.0, 5.0])


def test_isotonic_points_lie_on_scikit_learns_steps(studies) -> None:
    scores, positive = studies
    curve = isotonic_curve(scores, positive)
    # One more study of the other class beyond either end.
    steps = IsotonicRegression().fit(np.r_[-99, scores, 99], np.r_[1, positive, 0])
    fitted = steps.predict(scores)
    values = np.unique(fitted)
    centres = np.array([scores[fitted == value].mean() for value in values])
    apart = np.flatnonzero(np.minimum(np.diff(centres, prepend=-99), np.diff(centres, append=99)) > 0.11)
    assert len(apart) > 5
    assert np.allclose(curve(centres[apart]), logit(values[apart]), atol=1e-9)


def test_venn_abers_points_lie_between_its_two_probabilities(studies) -> None:
    scores, positive = studies
    ordered = Ordered.of(scores, positive)
    p0, p1 = venn_abers(ordered)
    regular = p1 / (1 - p0 + p1)
    bent = expit(venn_abers_curve(scores, positive)(ordered.scores))
    # A step is up to .25 high, and the curve goes through its middle.
    assert np.abs(bent - regular).max() < 0.15
    assert np.average(bent - regular, weights=ordered.counts) == pytest.approx(0, abs=0.002)
    assert np.average(np.abs(bent - regular), weights=ordered.counts) < 0.02


def test_venn_abers_by_hand() -> None:
    """At the scores of two negative and two positive studies: (p0, p1) = (0, 1/3), (0, 1/2), (1/2, 1), (2/3, 1)."""
    scores = np.arange(4.0)
    curve = venn_abers_curve(scores, scores > 1)
    assert np.allclose(expit(curve(scores)), [1 / 4, 1 / 3, 2 / 3, 3 / 4])


@pytest.mark.parametrize("make", [isotonic_curve, venn_abers_curve])
def test_curves_rise_everywhere_and_have_no_cliff(studies, make) -> None:
    scores, positive = studies
    curve = make(scores, positive)
    curve.require_sound("curve")
    asked = np.linspace(-12, 12, 4001)
    slopes = np.diff(curve(asked)) / np.diff(asked)
    assert slopes.min() > 0
    assert slopes.max() < 15
    assert np.abs(expit(curve(scores)) - expit(scores)).mean() < 0.04


@pytest.mark.parametrize("make", [isotonic_curve, venn_abers_curve])
def test_perfect_separation_does_not_become_certainty(make) -> None:
    scores = np.r_[np.linspace(-3, -2, 9), np.linspace(2, 3, 9)]
    p = expit(make(scores, scores > 0)(np.array([-2.5, 2.5])))
    # A tenth: one of the other class among ten.
    assert p[0] == pytest.approx(0.1, abs=0.05)
    assert p[1] == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize("make", [isotonic_curve, venn_abers_curve])
def test_rows_of_one_study_are_not_counted_as_witnesses(make) -> None:
    scores = np.r_[np.linspace(-3, -2, 9), np.linspace(2, 3, 9)]
    once, seven = make(scores, scores > 0), make(np.repeat(scores, 7), np.repeat(scores > 0, 7), 7.0)
    assert np.allclose(once(np.array([-2.5, 2.5])), seven(np.array([-2.5, 2.5])))


@pytest.mark.parametrize("make", [isotonic_curve, venn_abers_curve])
def test_scores_without_order_or_with_one_class_make_a_curve(make) -> None:
    for positive in (np.array([True, False, True, False]), np.ones(4, bool)):
        curve = make(np.zeros(4), positive)
        curve.require_sound("curve")
        assert len(curve.before) == 1


@pytest.mark.parametrize(
    "points", [((), ()), ((1.0,), (1.0, 2.0)), ((1.0, 1.0), (1.0, 2.0)), ((1.0, 2.0), (2.0, 1.0)), ((1.0,), (np.inf,))]
)
def test_points_that_do_not_rise_are_refused(points) -> None:
    with pytest.raises(InputError, match=r"^curve"):
        Curve(*points).require_sound("curve")
