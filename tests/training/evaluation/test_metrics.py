from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from consilium.calibration import patient_bootstrap
from training.evaluation.metrics import (
    BY_CHANCE,
    METRICS,
    Sample,
    entropy,
    equal_mass_bins,
    finding_metrics,
    interval,
    macro,
    ranking,
    within_folds,
)


def draw(studies: int, seed: int, digits: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(studies) < 0.3).astype(float)
    scores = 1 / (1 + np.exp(-(rng.normal(size=studies) + 1.5 * labels - 1.5)))
    return labels, np.round(scores, digits)


@pytest.mark.parametrize("digits", [12, 1])  # with 1 nearly all scores are tied
def test_every_replicate_agrees_with_scikit_learn(digits: int) -> None:
    labels, scores = draw(300, 0, digits)
    called = scores >= 0.3
    weights = patient_bootstrap(np.arange(300) // 3, 40, 1)
    figures = finding_metrics(labels, scores, called, weights)
    assert set(figures) == {*METRICS, BY_CHANCE}
    for r, w in enumerate(weights):
        expected = {
            "auroc": sk.roc_auc_score(labels, scores, sample_weight=w),
            "auprc": sk.average_precision_score(labels, scores, sample_weight=w),
            "brier": sk.brier_score_loss(labels, scores, sample_weight=w),
            "sensitivity": sk.recall_score(labels, called, sample_weight=w),
            "specificity": sk.recall_score(1 - labels, ~called, sample_weight=w),
            "precision": sk.precision_score(labels, called, sample_weight=w),
            "f1": sk.f1_score(labels, called, sample_weight=w),
        }
        if digits > 1:  # scikit-learn clips certainty as we do, but warns of it
            expected["nll"] = sk.log_loss(labels, scores, sample_weight=w)
        for name, value in expected.items():
            assert figures[name][r] == pytest.approx(value, abs=1e-12), (name, r)


def test_calibration_error_agrees_with_scikit_learns_curve() -> None:
    labels, scores = draw(1000, 2)
    observed, predicted = calibration_curve(labels, scores, n_bins=10, strategy="quantile")
    ece = finding_metrics(labels, scores, None, np.ones((1, 1000)))["ece"][0]
    assert ece == pytest.approx(np.abs(observed - predicted).mean(), abs=1e-12)
    assert np.array_equal(np.bincount(equal_mass_bins(scores)), [100] * 10)
    assert set(equal_mass_bins(np.array([0.2] * 7 + [0.9] * 3))) == {3, 8}  # ties share a bin


def test_calibration_error_of_honest_and_of_boastful_probabilities() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(20000)
    labels = (rng.random(20000) < p).astype(float)
    boast = np.clip(p * 1.5 - 0.25, 0.01, 0.99)
    ones = np.ones((1, 20000))
    assert finding_metrics(labels, p, None, ones)["ece"][0] < 0.012
    assert finding_metrics(labels, boast, None, ones)["ece"][0] == pytest.approx(np.abs(boast - p).mean(), abs=0.012)


@pytest.mark.parametrize(("studies", "sharpness"), [(200, 1.0), (5000, 1.0), (5000, 3.0)])
def test_calibration_error_by_chance_is_what_perfect_probabilities_show(studies: int, sharpness: float) -> None:
    rng = np.random.default_rng(0)
    shown, expected = [], []
    for _ in range(60):
        p = 1 / (1 + np.exp(-sharpness * rng.normal(size=studies) + 1))
        figures = finding_metrics((rng.random(studies) < p).astype(float), p, None, np.ones((2, studies)))
        shown.append(figures["ece"][0])
        expected.append(figures[BY_CHANCE][0])
    assert np.mean(expected) == pytest.approx(np.mean(shown), rel=0.07)
    assert 0.003 < np.mean(expected) < 0.1
    assert np.array_equal(figures[BY_CHANCE], np.full(2, expected[-1]))


def test_the_interval_of_the_calibration_error_holds_the_figure() -> None:
    labels, scores = draw(400, 3)
    values = finding_metrics(labels, scores, None, patient_bootstrap(np.arange(400), 500, 1))["ece"]
    estimate = interval("ece", values)
    assert 0 <= estimate.low < estimate.value == values[0] < estimate.high
    assert values[1:].mean() > values[0]  # what the shift is for


def test_the_interval_of_the_auroc_is_delongs() -> None:
    labels, scores = draw(600, 4)
    estimate = interval(
        "auroc", finding_metrics(labels, scores, None, patient_bootstrap(np.arange(600), 2000, 2))["auroc"]
    )
    wins = (scores[labels == 1][:, None] > scores[labels == 0]).astype(float)
    variance = wins.mean(axis=1).var(ddof=1) / len(wins) + wins.mean(axis=0).var(ddof=1) / wins.shape[1]
    assert estimate.value == pytest.approx(wins.mean())
    assert (estimate.high - estimate.low) / (2 * 1.96) == pytest.approx(np.sqrt(variance), rel=0.08)


def test_studies_of_one_patient_widen_the_interval() -> None:
    labels, scores = (np.repeat(column, 4) for column in draw(200, 5))
    widths = []
    for patients in (np.arange(800), np.arange(800) // 4):
        estimate = interval(
            "auroc", finding_metrics(labels, scores, None, patient_bootstrap(patients, 1000, 3))["auroc"]
        )
        widths.append(estimate.high - estimate.low)
    assert widths[1] / widths[0] == pytest.approx(2, rel=0.15)  # a quarter of the independent studies


def test_a_replicate_without_a_class_is_left_out() -> None:
    labels, scores = np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.9, 0.2, 0.1, 0.95])
    weights = np.array([[1.0, 1, 1, 1], [0, 2, 1, 1], [2, 1, 1, 0], [4, 0, 0, 0], [1, 0, 0, 3]])
    figures = finding_metrics(labels, scores, scores > 0.5, weights)
    assert np.array_equal(np.isnan(figures["auroc"]), [False, True, False, True, False])
    assert np.array_equal(figures["auroc"][[0, 2, 4]], [2 / 3, 1, 0])
    assert np.isnan(figures["sensitivity"][1])
    assert np.isnan(figures["specificity"][3])
    estimate = interval("auroc", figures["auroc"])
    assert estimate.value == pytest.approx(2 / 3)
    assert np.isfinite([estimate.low, estimate.high]).all()
    alone = interval("auroc", ranking(np.array([True, True]), np.array([0.1, 0.2]), np.ones((3, 2)))["auroc"])
    assert np.isnan([alone.value, alone.low, alone.high]).all()


def test_no_study_and_certainty_are_measured_without_warnings() -> None:
    nothing = finding_metrics(np.array([]), np.array([]), np.array([], bool), np.ones((3, 0)))
    assert all(np.isnan(values).all() for values in nothing.values())
    certain = finding_metrics(np.array([1.0, 0.0]), np.array([0.0, 1.0]), None, np.ones((1, 2)))
    assert np.isfinite(certain["nll"]).all()
    assert certain["nll"][0] > 30


def test_entropy_is_the_nll_of_the_prevalence() -> None:
    positive = np.array([True] * 3 + [False] * 7)
    weights = np.stack([np.ones(10), np.r_[np.zeros(3), np.ones(7)]])
    assert entropy(positive, weights)[0] == pytest.approx(sk.log_loss(positive, np.full(10, 0.3)))
    assert entropy(positive, weights)[1] == 0


def test_sample_masks_unknown_and_absent_and_macro_leaves_out_what_has_one_class() -> None:
    labels = np.array([[1, 1, 0], [0, 0, 0], [1, np.nan, 0], [0, 1, 0]], float)
    p = np.array([[0.8, 0.4, 0.1], [0.3, 0.6, 0.1], [0.2, 0.9, 0.2], [np.nan, 0.7, 0.3]])
    measured = Sample(labels, np.ones((2, 4))).measure(p)
    assert [(one.n, one.positives) for one in measured] == [(3, 2), (3, 2), (4, 0)]
    assert [one.figures["auroc"][0] for one in measured[:2]] == [0.5, 0.5]
    assert macro(measured).figures["auroc"][0] == 0.5
    assert macro(measured).figures["brier"][0] == pytest.approx(
        np.mean([measured[0].figures["brier"][0], measured[1].figures["brier"][0]])
    )


def test_a_thousand_replicates_take_milliseconds() -> None:
    labels, scores = draw(1000, 6)
    weights = patient_bootstrap(np.arange(1000), 1000, 1)
    start = time.process_time()
    for _ in range(5):
        finding_metrics(labels, scores, scores > 0.3, weights)
    assert (time.process_time() - start) / 5 < 0.2


def test_within_folds_every_pair_of_one_fold_counts_once() -> None:
    labels, scores = draw(120, 4)
    fold = np.random.default_rng(2).integers(0, 3, 120)
    scores += fold  # A model of each fold has a scale of its own.
    positive = labels == 1
    pairs = [
        float(scores[a] > scores[b])
        for a in np.flatnonzero(positive)
        for b in np.flatnonzero(~positive)
        if fold[a] == fold[b]
    ]
    weights = patient_bootstrap(np.arange(120), 20, 1)
    found = within_folds(positive, scores, weights, fold)
    assert found[0] == pytest.approx(np.mean(pairs))
    again = np.repeat(np.arange(120), weights[3].astype(int))
    ones = np.ones((1, len(again)))
    assert found[3] == pytest.approx(within_folds(positive[again], scores[again], ones, fold[again])[0])


def test_what_knows_nothing_but_the_other_folds_is_a_half_within_folds() -> None:
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0], float)
    fold = np.repeat([0, 1], 6)
    elsewhere = np.where(fold == 0, labels[fold == 1].mean(), labels[fold == 0].mean())
    [measured] = Sample(labels[:, None], np.ones((1, 12)), fold).measure(elsewhere[:, None])
    assert measured.figures["auroc"][0] < 0.4
    assert measured.figures["auroc_within"][0] == 0.5


def test_folds_of_one_class_have_no_pairs() -> None:
    labels = np.array([1, 1, 0, 0], float)
    assert np.isnan(within_folds(labels == 1, labels, np.ones((2, 4)), np.array([0, 0, 1, 1]))).all()
