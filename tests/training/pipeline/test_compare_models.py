"""Two models on the same studies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from consilium.domain.errors import InputError, TrainingError
from training.evaluation.delong import delong
from training.pipeline.compare_models import Answers, compare_answers


def _answers(probabilities: np.ndarray, labels: np.ndarray, first: int = 0) -> Answers:
    names = np.array([f"S{number}" for number in range(first, first + len(labels))])
    return Answers(("effusion", "nodule"), names, names, labels, probabilities)


@pytest.fixture(scope="module")
def cohort() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, a good model and one that is a little worse."""
    rng = np.random.default_rng(3)
    labels = (rng.random((400, 2)) < 0.4).astype(float)
    good = labels + rng.normal(0, 0.8, labels.shape)
    worse = good + rng.normal(0, 1.0, labels.shape)
    return labels, 1 / (1 + np.exp(-good)), 1 / (1 + np.exp(-worse))


def test_delong_by_hand():
    # Four positives, three negatives; every pair compared by eye.
    positive = np.array([1, 1, 1, 1, 0, 0, 0], bool)
    first = np.array([0.9, 0.8, 0.4, 0.7, 0.6, 0.3, 0.1])
    second = np.array([0.5, 0.9, 0.2, 0.3, 0.3, 0.1, 0.4])
    found = delong(positive, first, second)
    assert found.first == pytest.approx(11 / 12)
    assert found.second == pytest.approx(8.5 / 12)
    # Shares of negatives below each positive, and of positives above each negative.
    by_positive = np.array([1, 1, 2 / 3, 1]) - np.array([1, 1, 1 / 3, 1.5 / 3])
    by_negative = np.array([3 / 4, 1, 1]) - np.array([2.5 / 4, 1, 2 / 4])
    error = np.sqrt(by_positive.var(ddof=1) / 4 + by_negative.var(ddof=1) / 3)
    assert found.standard_error == pytest.approx(error)


def test_delong_agrees_with_the_spread_over_fresh_samples():
    rng = np.random.default_rng(0)
    differences, errors = [], []
    for _ in range(300):
        positive = rng.random(200) < 0.4
        shared = positive + rng.normal(0, 1, 200)
        found = delong(positive, shared + rng.normal(0, 0.3, 200), shared + rng.normal(0, 0.9, 200))
        differences.append(found.first - found.second)
        errors.append(found.standard_error)
    assert np.mean(errors) == pytest.approx(np.std(differences, ddof=1), rel=0.12)


def test_delong_of_a_model_and_itself_sees_no_difference():
    scores = np.linspace(0, 1, 20)
    found = delong(np.arange(20) % 3 == 0, scores, scores)
    assert (found.standard_error, found.p_value) == (0.0, 1.0)


def test_the_better_and_the_worse_model_are_named(cohort):
    labels, good, worse = cohort
    table = compare_answers(_answers(good, labels), _answers(worse, labels), margin=0.05, bootstrap=300, seed=1)
    assert table["finding"].tolist() == ["effusion", "nodule", "macro"]
    assert table["verdict"].tolist() == ["better"] * 3
    assert (table["delong_p"][:2] < 0.01).all()
    turned = compare_answers(_answers(worse, labels), _answers(good, labels), margin=0.05, bootstrap=300, seed=1)
    assert turned["verdict"].tolist() == ["worse"] * 3
    assert turned["auroc_difference_low"].to_numpy() == pytest.approx(-table["auroc_difference_high"].to_numpy())


def test_not_inferior_needs_the_margin_and_enough_studies(cohort):
    labels, good, _ = cohort
    nearly = np.clip(good + np.random.default_rng(5).normal(0, 0.02, good.shape), 0.001, 0.999)
    wide = compare_answers(_answers(nearly, labels), _answers(good, labels), margin=0.05, bootstrap=300, seed=1)
    assert set(wide["verdict"]) == {"not inferior"}
    few = slice(0, 30)
    noisy = np.clip(good + np.random.default_rng(5).normal(0, 0.25, good.shape), 0.001, 0.999)
    small = compare_answers(
        _answers(noisy[few], labels[few]), _answers(good[few], labels[few]), margin=0.01, bootstrap=300, seed=1
    )
    assert "undecided" in set(small["verdict"])


def test_only_common_studies_count_and_in_the_right_order(cohort):
    labels, good, worse = cohort
    order = np.random.default_rng(0).permutation(300)
    second = _answers(worse, labels).at(order + 50)
    table = compare_answers(_answers(good, labels), second, margin=0.05, bootstrap=20, seed=1)
    assert table["n"].tolist()[:2] == [300, 300]
    rows = np.sort(order + 50)
    aligned = compare_answers(
        _answers(good, labels).at(rows), _answers(worse, labels).at(rows), margin=0.05, bootstrap=20, seed=1
    )
    assert table["auroc_difference"].tolist() == aligned["auroc_difference"].tolist()


def test_what_cannot_be_compared_is_refused(cohort):
    labels, good, worse = cohort
    with pytest.raises(TrainingError, match="no study"):
        compare_answers(_answers(good, labels), _answers(worse, labels, 1000), margin=0.05, bootstrap=2, seed=1)
    other = Answers(("effusion", "mass"), *(getattr(_answers(worse, labels), name) for name in _COLUMNS))
    with pytest.raises(InputError, match="findings"):
        compare_answers(_answers(good, labels), other, margin=0.05, bootstrap=2, seed=1)
    with pytest.raises(InputError, match="margin"):
        compare_answers(_answers(good, labels), _answers(worse, labels), margin=0.9, bootstrap=2, seed=1)


_COLUMNS = ("study_ids", "patient_ids", "labels", "probabilities")


def test_answers_are_read_back_as_they_were_saved(cohort, tmp_path: Path):
    labels, good, _ = cohort
    labels = np.where(np.arange(len(labels))[:, None] == 3, np.nan, labels)
    saved = _answers(good, labels)
    saved.save(tmp_path / "answers.npz")
    found = Answers.load(tmp_path / "answers.npz")
    assert found.findings == saved.findings
    for name in _COLUMNS:
        np.testing.assert_array_equal(getattr(found, name), getattr(saved, name))
