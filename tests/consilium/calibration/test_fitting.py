from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logit

from consilium.calibration import (
    Calibration,
    Shrinkage,
    fit_calibrator,
    operating_point,
    patient_bootstrap,
    present_subsets,
)
from consilium.calibration.patients import held_out_patients
from consilium.domain.errors import TrainingError
from tests.consilium.calibration.simulated import CLASSES, FINDINGS, SUBSETS, calibration_gap, fit, simulate


@pytest.fixture(scope="module")
def case() -> dict:
    return simulate(FINDINGS, 3000, 0)


@pytest.fixture(scope="module")
def calibration(case: dict) -> Calibration:
    return fit(FINDINGS, case)


def held_out_of(case: dict, share: float = 0.5) -> np.ndarray:
    """Which studies are held out: the package's own draw, with the needs of a case in which all is plenty."""
    present = np.column_stack(list(case["present"].values()))
    any_present = present.any(axis=1)[:, None]
    labels = case["labels"]
    needed = np.column_stack([any_present & (labels == 1), any_present & (labels == 0)])
    return held_out_patients(labels, present, np.arange(len(labels)), share, needed, 1)


def test_new_studies_are_calibrated_in_every_subset(calibration: Calibration) -> None:
    fresh = simulate(FINDINGS, 20000, 5)
    for subset, logits in fresh["fused"].items():
        p = calibration.probabilities(logits, subset)
        assert max(calibration_gap(fresh["labels"][:, f], p[:, f]) for f in range(2)) < 0.03, subset
    for modality, logits in fresh["unimodal"].items():
        p = calibration.unimodal_probabilities(logits, modality)
        assert max(calibration_gap(fresh["labels"][:, f], p[:, f]) for f in range(2)) < 0.03, modality


def test_fitting_and_held_out_studies_are_disjoint(case: dict, calibration: Calibration) -> None:
    held_out = held_out_of(case)
    assert (calibration.fitted_on, calibration.held_out) == ((~held_out).sum(), held_out.sum())
    rows = {subset: values[~held_out] for subset, values in case["fused"].items()}
    prior = np.asarray(calibration.prior_log_odds)
    assert calibration.fused == fit_calibrator(
        "scaling", FINDINGS, case["labels"][~held_out], rows, prior, Shrinkage(0.3, 0.4)
    )
    # The held-out labels move sets, intervals and operating points, and no probability.
    turned = {**case, "labels": np.where(held_out[:, None], 1 - case["labels"], case["labels"])}
    other = fit(FINDINGS, turned, method="scaling")
    if np.array_equal(held_out_of(turned), held_out):
        assert other.fused == calibration.fused
    assert other.conformal != calibration.conformal


def test_operating_points_are_chosen_on_the_held_out_studies_alone(case: dict, calibration: Calibration) -> None:
    held_out = held_out_of(case)
    assert calibration.points_held_out == (True, True)
    subsets = np.array(present_subsets(case["present"]))
    p = np.full(case["labels"].shape, np.nan)
    for subset in SUBSETS:
        p[subsets == subset] = calibration.probabilities(case["fused"][subset][subsets == subset], subset)
    weights = patient_bootstrap(np.flatnonzero(held_out), 50, 1)
    for f, point in enumerate(calibration.operating_points):
        again = operating_point(case["labels"][held_out, f], p[held_out, f], 0.9, weights)
        assert point.threshold == pytest.approx(again.threshold, abs=1e-12)
        assert point.sensitivity.value == again.sensitivity.value
        assert point.specificity.high == again.specificity.high


def test_the_held_out_share_is_the_recipes(case: dict) -> None:
    calibration = fit(FINDINGS, case, conformal_share=0.25, method="scaling")
    assert calibration.held_out == pytest.approx(750, abs=1)
    assert calibration.fitted_on + calibration.held_out == 3000


def test_the_method_is_the_recipes_or_chosen(case: dict, calibration: Calibration) -> None:
    assert calibration.method == "scaling"
    assert min(calibration.cross_validated_nll, key=calibration.cross_validated_nll.__getitem__) == "scaling"
    isotonic = fit(FINDINGS, case, method="isotonic")
    assert isotonic.method == "isotonic"
    assert isotonic.cross_validated_nll == {}
    assert len(isotonic.fused.curves) == len(isotonic.alone["text"].curves) == 2


@pytest.mark.parametrize("findings", [FINDINGS, CLASSES])
@pytest.mark.parametrize("method", ["auto", "isotonic", "venn_abers", "vector"])
def test_a_handful_of_studies_is_enough_to_go_on_and_rules_nothing_out(findings, method: str) -> None:
    for seed in range(3):
        few = simulate(findings, 16, seed)
        few["labels"][:3] = np.eye(3)[:, : len(findings)]
        calibration = fit(findings, few, method=method)
        assert calibration.method == ("scaling" if method == "auto" else method)
        assert calibration.cross_validated_nll == {}
        p = calibration.probabilities([[2.0] * len(findings)], "image")
        assert ((p > 0) & (p < 1)).all()
        intervals = calibration.intervals([[2.0] * len(findings)], "image")
        assert (intervals[..., 0] <= p).all()
        assert (p <= intervals[..., 1]).all()
        # With fewer than nine held-out studies of a class, at .9, a set holds its answer whatever the model answers.
        sets = calibration.prediction_sets([[50.0] * len(findings), [-50.0] * len(findings)], "image")
        for f in range(len(findings)):
            group = calibration.conformal.of(f, "image")
            if group.present < 9:
                assert sets[:, f, 1].all()
            if group.absent < 9 and not findings.exclusive:
                assert sets[:, f, 0].all()


def test_a_finding_with_one_positive_keeps_it_for_the_fit_and_says_so() -> None:
    case = simulate(FINDINGS, 60, 3, missing=0)
    case["labels"][:, 1] = 0
    case["labels"][7, 1] = 1
    for seed in range(4):
        calibration = fit(FINDINGS, case, seed=seed)
        assert calibration.points_held_out == (True, False)
        assert calibration.conformal.of(1, "image+text+observations").present == 0
        assert calibration.prediction_sets([[-90.0, -90.0]], "image+text+observations")[0, 1, 1]


def test_a_modality_that_one_study_has_is_fitted_on_it() -> None:
    case = simulate(FINDINGS, 60, 4, missing=0)
    case["unimodal"]["text"][1:] = np.nan
    for seed in range(4):
        assert np.isfinite(fit(FINDINGS, case, seed=seed).unimodal_probabilities([[1.0, 1.0]], "text")).all()


def test_prior_is_smoothed() -> None:
    case = simulate(FINDINGS, 40, 3)
    case["labels"] = np.tile([1.0, 0.0], (40, 1))
    case["labels"][0] = [0, 1]
    for there in case["present"].values():
        there[0] = True
    for subset, values in case["fused"].items():
        case["fused"][subset] = np.where(np.arange(40)[:, None] == 0, 1.0, values)
    calibration = fit(FINDINGS, case)
    assert np.allclose(calibration.prior_log_odds, [np.log(39.5 / 1.5), np.log(1.5 / 39.5)])
    classes = simulate(CLASSES, 200, 1)
    prevalence = (classes["labels"].sum(axis=0) + 0.5) / 201.5
    assert np.allclose(fit(CLASSES, classes).prior_log_odds, logit(prevalence))


def test_degenerate_splits_end_in_an_error(case: dict) -> None:
    none_positive = case["labels"] * [1, 0]
    with pytest.raises(TrainingError, match="0 positive and 3000 negative studies of effusion"):
        fit(FINDINGS, case, labels=none_positive)
    with pytest.raises(TrainingError, match="text has a known label of pneumonia"):
        fit(FINDINGS, case, unimodal={"text": np.full_like(case["labels"], np.nan)}, method="scaling")
    infinite = {subset: np.where(np.isnan(values), np.nan, np.inf) for subset, values in case["fused"].items()}
    with pytest.raises(TrainingError, match="not finite"):
        fit(FINDINGS, case, fused=infinite)
    exclusive = simulate(CLASSES, 50, 1)
    exclusive["labels"][3] = [1, 1, 0]
    with pytest.raises(TrainingError, match="none or several"):
        fit(CLASSES, exclusive)


def test_present_subsets_name_what_each_study_has() -> None:
    present = {"text": np.array([True, True, False]), "image": np.array([True, False, False])}
    assert present_subsets(present) == ["image+text", "text", "none"]
