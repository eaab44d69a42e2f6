from __future__ import annotations

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from consilium.calibration.venn_abers import NOTHING_KNOWN, Bounds, Ordered, fit_bounds, venn_abers
from consilium.domain.errors import InputError


def draw(studies: int, seed: int, digits: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = np.round(rng.normal(size=studies), digits)
    return scores, rng.random(studies) < 1 / (1 + np.exp(-2 * scores))


@pytest.mark.parametrize(("studies", "digits"), [(1, 1), (2, 1), (7, 0), (30, 0), (30, 1), (50, 8)])
@pytest.mark.parametrize("seed", range(4))
def test_bounds_are_two_isotonic_regressions_with_the_study_added(studies: int, digits: int, seed: int) -> None:
    """The definition, word by word, by scikit-learn: at scores that occur, between them and beyond."""
    scores, positive = draw(studies, seed, digits)
    bounds = fit_bounds(scores, positive)
    asked = np.concatenate([scores, np.linspace(-4, 4, 15)])
    p0, p1 = bounds(asked)
    for score, low, high in zip(asked, p0, p1, strict=True):
        for label, value in ((0, low), (1, high)):
            fitted = IsotonicRegression().fit(np.append(scores, score), np.append(positive, label))
            assert value == pytest.approx(fitted.predict([score])[0], abs=1e-12)


def test_a_study_may_weigh_more() -> None:
    scores, positive = draw(20, 5, 1)
    p0, p1 = venn_abers(Ordered.of(scores, positive), weight=3.0)
    for k, score in enumerate(np.unique(scores)):
        for label, value in ((0, p0[k]), (1, p1[k])):
            fitted = IsotonicRegression().fit(
                np.append(scores, score), np.append(positive, label), np.append(np.ones(20), 3.0)
            )
            assert value == pytest.approx(fitted.predict([score])[0], abs=1e-12)


def test_bounds_keep_only_the_steps_and_come_back_to_the_bit() -> None:
    scores, positive = draw(3000, 6, 12)
    bounds = fit_bounds(scores, positive)
    assert len(bounds.low) < 300
    again = Bounds.from_json(bounds.to_json())
    again.require_sound("bounds")
    assert again == bounds
    p0, p1 = bounds(np.array([[0.1, np.nan]]))
    assert 0 < p0[0, 0] < p1[0, 0] < 1
    assert np.isnan([p0[0, 1], p1[0, 1]]).all()


def test_no_study_says_nothing() -> None:
    assert fit_bounds(np.array([]), np.array([], bool)) == NOTHING_KNOWN
    p0, p1 = NOTHING_KNOWN(np.array([-1.0, 3.0]))
    assert (p0 == 0).all()
    assert (p1 == 1).all()


@pytest.mark.parametrize(
    "change",
    [
        {"low": (0.0,)},
        {"low": (0.0, 0.5, 0.4)},
        {"high": (0.2, 0.4, 1.5)},
        {"high_above": (2.0, 1.0)},
        {"low_from": (1.0, float("nan"))},
    ],
)
def test_bounds_that_are_none_are_refused(change: dict) -> None:
    sound = {"low_from": (1.0, 2.0), "low": (0.0, 0.2, 0.5), "high_above": (1.0, 2.0), "high": (0.2, 0.6, 1.0)}
    Bounds(**sound).require_sound("bounds")
    with pytest.raises(InputError, match=r"^bounds"):
        Bounds(**(sound | change)).require_sound("bounds")
