from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit, logit

from consilium.calibration import (
    Calibration,
    fit_calibration,
    heard_subsets,
    operating_point,
    patient_bootstrap,
)
from consilium.errors import InputError, TrainingError
from consilium.findings import Finding, FindingSet
from consilium.study import Modality, nonempty_subsets, subset_key

FINDINGS = FindingSet((Finding("pneumonia", "Pneumonia"), Finding("effusion", "Effusion")))
CLASSES = FindingSet((Finding("viral", "Viral"), Finding("bacterial", "Bacterial"), Finding("none", "None")), True)
SUBSETS = [subset_key(subset) for subset in nonempty_subsets(Modality)]
SHIFT = {subset: 0.8 * (subset.count("+") - 1) for subset in SUBSETS}
"""What the simulated model adds to the true log-odds of each subset, before it doubles them."""


def simulate(findings: FindingSet, studies: int, seed: int, missing: float = 0.2) -> dict:
    """Labels and logits of a model that is overconfident by a factor of 2 and shifted by subset and finding."""
    rng = np.random.default_rng(seed)
    count = len(findings)
    if findings.exclusive:
        prevalence = np.array([0.5, 0.3, 0.2])
        labels = np.eye(count)[rng.choice(count, size=studies, p=prevalence)]
        prior = np.log(prevalence)
    else:
        prevalence = np.array([0.4, 0.2])
        labels = (rng.random((studies, count)) < prevalence).astype(float)
        prior = logit(prevalence)
    # Evidence e ~ N(label, 1) carries the log-likelihood ratio e - 1/2, for a softmax e alone.
    evidence = {m: rng.normal(size=labels.shape) + labels - 0.5 for m in Modality}
    present = rng.random((studies, 3)) > missing
    fused = {}
    for subset in nonempty_subsets(Modality):
        have = present[:, [list(Modality).index(m) for m in subset]].all(axis=1)
        truth = prior + sum(evidence[m] for m in subset)
        shift = SHIFT[subset_key(subset)] * np.linspace(1, -1, count)
        fused[subset_key(subset)] = np.where(have[:, None], 2 * (truth + shift), np.nan)
    opinions = {m: np.where(present[:, [i]], 3 * (prior + evidence[m]) + 1, np.nan) for i, m in enumerate(Modality)}
    return {"labels": labels, "fused": fused, "opinions": opinions, "present": present, "prevalence": prevalence}


def fit(findings: FindingSet, case: dict, **changes: object) -> Calibration:
    arguments = {
        "labels": case["labels"],
        "patient_ids": np.arange(len(case["labels"])),
        "fused": case["fused"],
        "opinions": case["opinions"],
        "present": case["present"],
        "target_sensitivity": 0.9,
        "seed": 1,
        "bootstrap": 200,
    }
    return fit_calibration(findings, **(arguments | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def case() -> dict:
    return simulate(FINDINGS, 6000, 0)


@pytest.fixture(scope="module")
def calibration(case: dict) -> Calibration:
    return fit(FINDINGS, case)


def test_scale_bias_and_offsets_undo_what_the_model_did(calibration: Calibration) -> None:
    assert np.allclose(calibration.fused.scale, 0.5, atol=0.03)
    for subset in SUBSETS:
        # log-odds = z / 2 - shift
        added = np.add(calibration.fused.bias, calibration.fused.offsets[subset])
        assert np.allclose(added, [-SHIFT[subset], SHIFT[subset]], atol=0.2), subset
    for scaling in calibration.alone.values():
        assert np.allclose(scaling.scale, 1 / 3, atol=0.03)
        assert np.allclose(scaling.bias, -1 / 3, atol=0.1)


def test_new_studies_are_calibrated_in_every_subset(calibration: Calibration) -> None:
    fresh = simulate(FINDINGS, 20000, 5)
    for subset, logits in fresh["fused"].items():
        p = calibration.probabilities(logits, subset)
        known = ~np.isnan(p[:, 0])
        for f in range(2):
            bins = np.array_split(np.argsort(p[known, f]), 10)
            gaps = [p[known, f][b].mean() - fresh["labels"][known, f][b].mean() for b in bins]
            assert np.abs(gaps).mean() < 0.02, (subset, f)


def test_exclusive_probabilities_add_up_and_are_calibrated() -> None:
    case = simulate(CLASSES, 6000, 1)
    calibration = fit(CLASSES, case)
    assert np.allclose(calibration.fused.scale, 0.5, atol=0.03)
    fresh = simulate(CLASSES, 20000, 2)
    for subset in SUBSETS:
        p = calibration.probabilities(fresh["fused"][subset], subset)
        known = ~np.isnan(p[:, 0])
        assert np.allclose(p[known].sum(axis=1), 1, atol=1e-12)
        assert np.allclose(logit(p[known]), calibration.log_odds(fresh["fused"][subset], subset)[known])
        for k in range(3):
            bins = np.array_split(np.argsort(p[known, k]), 10)
            gaps = [p[known, k][b].mean() - fresh["labels"][known, k][b].mean() for b in bins]
            assert np.abs(gaps).mean() < 0.025, (subset, k)
    assert np.allclose(expit(calibration.prior_log_odds), case["labels"].mean(axis=0), atol=1e-3)
    assert np.allclose(
        calibration.opinion(fresh["opinions"][Modality.TEXT][fresh["present"][:, 1]], Modality.TEXT).sum(1), 1
    )


def test_json_comes_back_to_the_bit(calibration: Calibration, case: dict) -> None:
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json(), allow_nan=False)))
    assert again == calibration
    logits = case["fused"]["image+text"]
    assert np.array_equal(
        again.probabilities(logits, "image+text"), calibration.probabilities(logits, "image+text"), equal_nan=True
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda data: {"kind": "isotonic"}, "calibration.kind"),
        (lambda data: [1], "calibration.kind"),
        (lambda data: data | {"fused": 3}, "calibration"),
        (lambda data: data | {"fused": data["fused"] | {"scale": [0.5, -1.0]}}, "calibration.fused"),
        (lambda data: data | {"fused": data["fused"] | {"bias": [0.5, float("nan")]}}, "calibration.fused"),
        (lambda data: data | {"prior_log_odds": [0.1]}, "calibration"),
        (lambda data: {k: v for k, v in data.items() if k != "operating_points"}, "calibration"),
    ],
)
def test_json_that_is_no_calibration_is_refused(calibration: Calibration, change, field: str) -> None:
    with pytest.raises(InputError) as raised:
        Calibration.from_json(change(calibration.to_json()))
    assert raised.value.field == field


def test_nothing_heard_gives_the_prior(calibration: Calibration, case: dict) -> None:
    prevalence = case["labels"].mean(axis=0)
    assert np.allclose(calibration.log_odds(np.zeros((3, 2)), "none"), calibration.prior_log_odds)
    assert np.allclose(calibration.probabilities(np.full((3, 2), 9.0), "none"), prevalence, atol=1e-3)


def test_prior_is_smoothed() -> None:
    case = simulate(FINDINGS, 40, 3)
    case["labels"] = np.tile([1.0, 0.0], (40, 1))
    case["labels"][0] = [0, 1]
    calibration = fit(FINDINGS, case)
    assert np.allclose(calibration.prior_log_odds, [np.log(39.5 / 1.5), np.log(1.5 / 39.5)])


def test_unheard_rows_stay_nan_and_others_do_not(calibration: Calibration, case: dict) -> None:
    p = calibration.probabilities(case["fused"]["text"], "text")
    assert np.array_equal(np.isnan(p[:, 0]), ~case["present"][:, 1])


def test_extreme_logits_stay_finite(calibration: Calibration) -> None:
    logits = np.array([[1e38, -1e38], [np.inf, -np.inf], [3e4, -3e4]])
    p = calibration.probabilities(logits, "image")
    assert (p[:, 0] > 0.999999).all()
    assert (p[:, 1] < 1e-6).all()
    assert np.isfinite(calibration.log_odds(logits, "image")).all()
    exclusive = fit(CLASSES, simulate(CLASSES, 300, 1))
    p = exclusive.probabilities([[1e38, -1e38, 0.0], [np.inf, 0.0, -np.inf]], "image")
    assert np.allclose(p, [[1, 0, 0], [1, 0, 0]])
    assert np.isfinite(exclusive.log_odds([[1e38, -1e38, 0.0]], "image")).all()


@pytest.mark.parametrize("factor", [1e-6, 1e6, 1e30])
def test_the_unit_of_the_logits_does_not_matter(case: dict, calibration: Calibration, factor: float) -> None:
    scaled = {subset: values * factor for subset, values in case["fused"].items()}
    other = fit(FINDINGS, case, fused=scaled)
    for subset in SUBSETS:
        expected = calibration.probabilities(case["fused"][subset], subset)
        assert np.allclose(other.probabilities(scaled[subset], subset), expected, atol=1e-4, equal_nan=True)


def test_perfect_separation_of_few_studies_does_not_become_certainty() -> None:
    labels = np.array([[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 6)
    logits = np.where(labels == 1, 5.0, -5.0)
    present = np.tile([True, False, False], (12, 1))
    calibration = fit(FINDINGS, {"labels": labels, "fused": {"image": logits}, "opinions": {}, "present": present})
    p = calibration.probabilities([[5.0, -5.0]], "image")[0]
    assert 0.9 < p[0] < 0.9999
    assert 0.0001 < p[1] < 0.1


@pytest.mark.parametrize("findings", [FINDINGS, CLASSES])
def test_logits_worse_than_chance_are_flattened_not_turned(findings: FindingSet) -> None:
    case = simulate(findings, 1000, 4)
    against = {subset: -values for subset, values in case["fused"].items()}
    calibration = fit(findings, case, fused=against)
    assert min(calibration.fused.scale) > 0
    p = calibration.probabilities(against["image"], "image")
    assert np.nanmax(np.nanstd(p, axis=0)) < 0.01


def test_constant_logits_give_the_prevalence(case: dict) -> None:
    constant = {subset: np.where(np.isnan(values), np.nan, 7.0) for subset, values in case["fused"].items()}
    calibration = fit(FINDINGS, case, fused=constant)
    assert np.allclose(calibration.probabilities([[7.0, 7.0]], "text"), case["prevalence"], atol=0.03)


def test_unknown_labels_are_masked(case: dict) -> None:
    labels = case["labels"].copy()
    hidden = np.random.default_rng(1).random(len(labels)) < 0.5
    labels[hidden, 1] = np.nan
    masked = fit(FINDINGS, case, labels=labels)
    kept = {key: {name: values[~hidden] for name, values in case[key].items()} for key in ("fused", "opinions")}
    expected = fit(FINDINGS, {"labels": labels[~hidden], "present": case["present"][~hidden], **kept})
    assert masked.fused.scale[1] == pytest.approx(expected.fused.scale[1], abs=1e-4)
    assert masked.prior_log_odds[1] == expected.prior_log_odds[1]
    assert masked.fused.scale[0] != pytest.approx(expected.fused.scale[0], abs=1e-4)


def test_a_subset_nobody_has_is_calibrated_like_the_others(case: dict) -> None:
    fused = dict(case["fused"]) | {"image+text": np.full_like(case["fused"]["image"], np.nan)}
    calibration = fit(FINDINGS, case, fused=fused)
    assert np.allclose(calibration.fused.offsets["image+text"], 0, atol=1e-6)


def test_degenerate_splits_end_in_an_error(case: dict) -> None:
    none_positive = case["labels"] * [1, 0]
    with pytest.raises(TrainingError, match="0 positive and 6000 negative studies of effusion"):
        fit(FINDINGS, case, labels=none_positive)
    with pytest.raises(TrainingError, match="text has a known label of pneumonia"):
        fit(FINDINGS, case, opinions={Modality.TEXT: np.full_like(case["labels"], np.nan)})
    infinite = {subset: np.where(np.isnan(values), np.nan, np.inf) for subset, values in case["fused"].items()}
    with pytest.raises(TrainingError, match="not finite"):
        fit(FINDINGS, case, fused=infinite)
    exclusive = simulate(CLASSES, 50, 1)
    exclusive["labels"][3] = [1, 1, 0]
    with pytest.raises(TrainingError, match="none or several"):
        fit(CLASSES, exclusive)


def test_unknown_subset_or_modality_is_refused(calibration: Calibration) -> None:
    with pytest.raises(InputError, match="image\\+text"):
        calibration.probabilities([[0.0, 0.0]], "genome")
    with pytest.raises(InputError, match="must be one of"):
        fit(FINDINGS, simulate(FINDINGS, 200, 1), opinions={}).opinion([[0.0, 0.0]], Modality.IMAGE)


def test_operating_point_reaches_its_target_and_no_higher_threshold_does(calibration: Calibration, case: dict) -> None:
    heard = heard_subsets(case["fused"], case["present"])
    p = np.full(case["labels"].shape, np.nan)
    for subset in SUBSETS:
        here = np.array(heard) == subset
        p[here] = calibration.probabilities(case["fused"][subset][here], subset)
    for f, point in enumerate(calibration.operating_points):
        positive = (case["labels"][:, f] == 1) & ~np.isnan(p[:, f])
        scores = p[positive, f]
        assert np.mean(scores >= point.threshold) == point.sensitivity.value >= 0.9
        assert np.mean(scores > scores[scores >= point.threshold].min()) < 0.9
        negative = (case["labels"][:, f] == 0) & ~np.isnan(p[:, f])
        assert np.mean(p[negative, f] < point.threshold) == pytest.approx(point.specificity.value)
        assert point.specificity.low < point.specificity.value < point.specificity.high
        # The interval of a share of n studies, by the normal approximation.
        width = 2 * 1.96 * np.sqrt(point.sensitivity.value * (1 - point.sensitivity.value) / positive.sum())
        assert point.sensitivity.high - point.sensitivity.low == pytest.approx(width, rel=0.3)


def test_operating_point_by_hand() -> None:
    labels = np.array([1.0] * 10 + [0.0] * 4 + [np.nan])
    scores = np.array([0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.5, 0.1, 0.62, 0.4, 0.3, 0.05, 0.45])
    point = operating_point(labels, scores, 0.9, patient_bootstrap(np.arange(15), 100, 0))
    assert point.threshold == pytest.approx(0.45)  # halfway between .5, the ninth positive, and .4
    assert (point.sensitivity.value, point.specificity.value) == (0.9, 0.75)
    with pytest.raises(TrainingError):
        operating_point(labels[:10], scores[:10], 0.9, np.ones((1, 10)))


def test_bootstrap_draws_patients_with_all_their_studies() -> None:
    patients = np.array(["a", "a", "b", "c", "c", "c"])
    weights = patient_bootstrap(patients, 500, 3)
    assert (weights[0] == 1).all()
    assert np.array_equal(weights[:, 0], weights[:, 1])
    assert np.array_equal(weights[:, 3], weights[:, 5])
    assert (weights[1:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert np.array_equal(weights, patient_bootstrap(patients, 500, 3))
    assert not np.array_equal(weights, patient_bootstrap(patients, 500, 4))


def test_heard_subsets_keep_to_the_modalities_of_the_model() -> None:
    present = np.array([[True, True, True], [False, True, False], [False, False, True]])
    fused = dict.fromkeys(["image", "text", "image+text"], np.zeros((3, 1)))
    assert heard_subsets(fused, present) == ["image+text", "text", "none"]
