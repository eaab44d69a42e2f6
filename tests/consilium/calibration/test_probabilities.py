from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from consilium.calibration import METHODS, Calibration, present_subsets
from consilium.domain.errors import InputError
from consilium.domain.findings import FindingSet
from tests.consilium.calibration.simulated import CLASSES, FINDINGS, SUBSETS, calibration_gap, fit, simulate

ALL = "image+text+observations"


@pytest.fixture(scope="module")
def case() -> dict:
    return simulate(FINDINGS, 1500, 0)


@pytest.fixture(scope="module")
def calibration(case: dict) -> Calibration:
    return fit(FINDINGS, case, method="scaling")


@pytest.fixture(scope="module")
def classes() -> Calibration:
    return fit(CLASSES, simulate(CLASSES, 1500, 1), method="scaling")


KINDS = {f"{m}-{k}": (f, m) for k, f in {"independent": FINDINGS, "exclusive": CLASSES}.items() for m in METHODS}


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS.keys())
def every_kind(request: pytest.FixtureRequest) -> Calibration:
    findings, method = request.param
    return fit(findings, simulate(findings, 600, 2), method=method)


def test_scaling_as_written(calibration: Calibration, classes: Calibration) -> None:
    scaling = calibration.fused.scaling
    z = np.array([[1.5, -0.5]])
    by_hand = np.array(scaling.scale["text"]) * z + scaling.bias["text"]
    assert np.allclose(calibration.log_odds(z, "text"), by_hand)
    assert np.allclose(calibration.probabilities(z, "text"), expit(by_hand))
    scaling = classes.fused.scaling
    z = np.array([[1.5, -0.5, 0.2]])
    by_hand = np.exp(np.array(scaling.scale["text"]) * z + scaling.bias["text"])
    assert np.allclose(classes.probabilities(z, "text"), by_hand / by_hand.sum())


def test_probabilities_and_log_odds_belong_together(every_kind: Calibration) -> None:
    fresh = simulate(every_kind.findings, 500, 3)
    for subset, logits in fresh["fused"].items():
        p = every_kind.probabilities(logits, subset)
        assert np.array_equal(np.isnan(p), np.isnan(logits))
        known = ~np.isnan(p[:, 0])
        assert np.allclose(logit(p[known]), every_kind.log_odds(logits, subset)[known], atol=1e-6)
        if every_kind.findings.exclusive:
            assert np.allclose(p[known].sum(axis=1), 1, atol=1e-12)


def test_log_odds_have_a_slope_everywhere(every_kind: Calibration) -> None:
    """What explanations ask: central differences of 1e-4."""
    logits = simulate(every_kind.findings, 300, 4)["fused"][ALL]
    logits = logits[~np.isnan(logits[:, 0])]
    step = np.zeros(logits.shape[1])
    step[0] = 1e-4
    slope = (every_kind.log_odds(logits + step, ALL) - every_kind.log_odds(logits - step, ALL))[:, 0] / 2e-4
    assert (slope > 0.002).all()
    assert (slope < 10).all()
    # The model stretches this subset twofold; a curve is now steeper and now flatter than that.
    assert 0.15 < np.median(slope) < 0.65


def test_extreme_logits_stay_finite(every_kind: Calibration) -> None:
    count = len(every_kind.findings)
    for value in (1e38, np.inf, 3e4, -1e38, -np.inf):
        logits = np.r_[value, np.zeros(count - 1)][None]
        p, log_odds = every_kind.probabilities(logits, "image"), every_kind.log_odds(logits, "image")
        assert p[0, 0] > 0.999999 if value > 0 else p[0, 0] < 1e-6
        assert np.isfinite(log_odds).all()
        assert np.abs(log_odds).max() <= 30
        intervals = every_kind.intervals(logits, "image")
        assert ((intervals >= 0) & (intervals <= 1)).all()


def test_json_comes_back_to_the_bit(every_kind: Calibration) -> None:
    name = every_kind.findings.names[0]
    for calibration in (every_kind, every_kind.at_prevalence({name: 0.07})):
        again = Calibration.from_json(json.loads(json.dumps(calibration.to_json(), allow_nan=False)))
        assert again == calibration
        logits = simulate(calibration.findings, 50, 5)["fused"]["image+text"]
        for ask in ("probabilities", "intervals", "prediction_sets"):
            first, second = (getattr(one, ask)(logits, "image+text") for one in (calibration, again))
            assert np.array_equal(first, second, equal_nan=ask != "prediction_sets")


def test_a_subset_that_no_calibration_study_had_is_answered_and_rules_nothing_out() -> None:
    case = simulate(FINDINGS, 300, 2)
    seen = {subset: values for subset, values in case["fused"].items() if subset != "image+text"}
    calibration = fit(FINDINGS, case | {"fused": seen})
    logits = np.array([[2.0, -1.0]])
    p = calibration.probabilities(logits, "image+text")[0]
    assert p == pytest.approx(expit(calibration.fused.scaling(logits, "image+text")[0]))
    assert 0.05 < p[1] < 0.4 < p[0] < 0.95
    assert calibration.intervals(logits, "image+text").tolist() == [[[0.0, 1.0], [0.0, 1.0]]]
    assert calibration.prediction_sets(logits, "image+text").all()
    with pytest.raises(InputError, match="must be of image, text, observations"):
        calibration.probabilities(logits, "image+genome")


FLAT = {"before": [0.0, 0.0], "after": [1.0, 2.0]}
FALLING = {
    "scale": {"text": [0.5, -1.0]},
    "bias": {"text": [0.0, 0.0]},
    "additive": {
        "scale": {"none": [0.5, 0.1], "text": [0.0, 0.0]},
        "offset": {"none": [0.0, 0.0], "text": [0.0, 0.0]},
        "centre": [0.0, 0.0],
    },
}


def without(data: dict, key: str) -> dict:
    return {name: value for name, value in data.items() if name != key}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda data: {"kind": "isotonic"}, "calibration.kind"),
        (lambda data: [1], "calibration.kind"),
        (lambda data: data | {"fused": 3}, "calibration"),
        (lambda data: without(data, "operating_points"), "calibration"),
        (lambda data: without(data, "conformal"), "calibration"),
        (lambda data: data | {"method": "guess"}, "calibration.method"),
        (lambda data: data | {"prior_log_odds": [0.1]}, "calibration.prior_log_odds"),
        (lambda data: data | {"points_held_out": [True]}, "calibration.points_held_out"),
        (lambda data: data | {"shift": [0.1]}, "calibration.shift"),
        (lambda data: data | {"shift": [0.1, float("nan")]}, "calibration.shift"),
        (lambda data: data | {"conformal": {"coverage": 0.9, "groups": []}}, "calibration.conformal"),
        (lambda data: data | {"conformal": data["conformal"] | {"coverage": 1.5}}, "calibration.conformal"),
        (lambda data: data | {"fused": data["fused"] | {"curves": [FLAT, FLAT]}}, "calibration.fused.curves"),
        (lambda data: data | {"fused": {"curves": [], "scaling": FALLING}}, "calibration.fused.scaling"),
    ],
)
def test_json_that_is_no_calibration_is_refused(calibration: Calibration, change, field: str) -> None:
    with pytest.raises(InputError) as raised:
        Calibration.from_json(change(calibration.to_json()))
    assert raised.value.field == field


def test_no_modality_gives_the_prior(calibration: Calibration, case: dict) -> None:
    prevalence = case["labels"].mean(axis=0)
    assert np.allclose(calibration.log_odds(np.zeros((3, 2)), "none"), calibration.prior_log_odds)
    assert np.allclose(calibration.probabilities(np.full((3, 2), 9.0), "none"), prevalence, atol=1e-3)
    assert calibration.prediction_sets(np.zeros((3, 2)), "none").all()
    assert calibration.intervals(np.zeros((1, 2)), "none").tolist() == [[[0.0, 1.0], [0.0, 1.0]]]


def test_rows_without_modalities_stay_unknown(calibration: Calibration, case: dict) -> None:
    unheard = ~case["present"]["text"]
    logits = case["fused"]["text"]
    assert np.array_equal(np.isnan(calibration.probabilities(logits, "text")[:, 0]), unheard)
    assert np.array_equal(np.isnan(calibration.intervals(logits, "text")[:, 0, 0]), unheard)
    assert calibration.prediction_sets(logits, "text")[unheard].all()
    assert not calibration.prediction_sets(logits, "text")[~unheard].all()


def test_unknown_subset_or_modality_is_refused(calibration: Calibration) -> None:
    for ask in (calibration.probabilities, calibration.intervals, calibration.prediction_sets):
        with pytest.raises(InputError, match="must be of image, text, observations"):
            ask([[0.0, 0.0]], "genome")
    with pytest.raises(InputError, match="must be one of"):
        fit(FINDINGS, simulate(FINDINGS, 200, 1), unimodal={}).unimodal_probabilities([[0.0, 0.0]], "image")


def test_intervals_are_venn_abers_widened_to_the_probability(every_kind: Calibration) -> None:
    fresh = simulate(every_kind.findings, 400, 6)
    logits = fresh["fused"]["image"][fresh["present"]["image"]]
    p, intervals = every_kind.probabilities(logits, "image"), every_kind.intervals(logits, "image")
    assert (intervals[..., 0] <= p).all()
    assert (p <= intervals[..., 1]).all()
    pair = every_kind.conformal.bounds(every_kind.log_odds(logits, "image"), "image")
    assert np.allclose(intervals[..., 0], np.minimum(pair[..., 0], p))
    assert np.allclose(intervals[..., 1], np.maximum(pair[..., 1], p))
    assert 0.005 < np.median(intervals[..., 1] - intervals[..., 0]) < 0.4


def test_intervals_narrow_with_the_calibration_split() -> None:
    widths = []
    for studies in (200, 4000):
        calibration = fit(FINDINGS, simulate(FINDINGS, studies, 7, missing=0), method="scaling")
        intervals = calibration.intervals(simulate(FINDINGS, 300, 8, missing=0)["fused"][ALL], ALL)
        widths.append(np.mean(intervals[..., 1] - intervals[..., 0]))
    assert widths[1] < 0.5 * widths[0]


def covered(calibration: Calibration, case: dict) -> np.ndarray:
    """Share of the studies of each class whose set holds it, [F, 2], each with what it came with."""
    subsets = np.array(present_subsets(case["present"]))
    holds = np.zeros((*case["labels"].shape, 2), bool)
    for subset in SUBSETS:
        here = subsets == subset
        holds[here] = calibration.prediction_sets(case["fused"][subset][here], subset)
    some = subsets != "none"
    truth = case["labels"][some]
    return np.array(
        [[holds[some][truth[:, f] == answer, f, answer].mean() for answer in (0, 1)] for f in range(truth.shape[1])]
    )


def test_sets_cover_each_class(every_kind: Calibration) -> None:
    shares = covered(every_kind, simulate(every_kind.findings, 6000, 9))
    # One small calibration split: .9 within what some 60 held-out studies of a class allow.
    assert (shares[:, 1] > 0.8).all()
    assert (shares[:, 1] < 0.99).all()
    assert (shares[:, 0] > 0.8).all()


def test_sets_of_exclusive_findings_are_sets_of_classes(classes: Calibration) -> None:
    fresh = simulate(CLASSES, 800, 10, missing=0)
    sets = classes.prediction_sets(fresh["fused"][ALL], ALL)
    members = sets[..., 1].sum(axis=1)
    assert set(members) >= {1, 2}
    alone = members == 1
    # The only class in a set is not absent; every other one is not present.
    assert (sets[alone].sum(axis=-1) == 1).all()
    assert sets[members > 1][..., 0].all()
    limits = [classes.conformal.of(k, ALL).lowest_present for k in range(3)]
    assert np.array_equal(sets[..., 1], classes.log_odds(fresh["fused"][ALL], ALL) >= limits)


# --- prevalence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("findings", "there", "prevalences"),
    [
        (FINDINGS, (0.4, 0.6), {"effusion": 0.6}),
        (CLASSES, (0.2, 0.2, 0.6), {"viral": 0.2, "bacterial": 0.2, "none": 0.6}),
        (CLASSES, (0.8, 0.12, 0.08), {"viral": 0.8}),
    ],
)
def test_probabilities_are_calibrated_where_findings_are_more_or_less_frequent(
    findings: FindingSet, there: tuple[float, ...], prevalences: dict[str, float]
) -> None:
    calibration = fit(findings, simulate(findings, 4000, 11), method="scaling")
    moved = calibration.at_prevalence(prevalences)
    fresh = simulate(findings, 20000, 12, prevalence=there)
    changed = findings.index(next(iter(prevalences)))
    for subset in ("image", ALL):
        gaps = [
            calibration_gap(fresh["labels"][:, changed], one.probabilities(fresh["fused"][subset], subset)[:, changed])
            for one in (calibration, moved)
        ]
        assert gaps[0] > 0.06
        assert gaps[1] < 0.03
    p = moved.unimodal_probabilities(fresh["unimodal"]["image"], "image")[:, changed]
    assert calibration_gap(fresh["labels"][:, changed], p) < 0.03
    assert np.allclose(expit(moved.prior_log_odds), there, atol=0.02)
    # Sensitivity and specificity are those of the calibration split, since the same studies are called.
    before, after = (
        one.probabilities(fresh["fused"][ALL], ALL)[:, changed] >= one.thresholds[changed]
        for one in (calibration, moved)
    )
    if not findings.exclusive or len(prevalences) == 1:
        assert np.array_equal(before, after)
    assert moved.operating_points[changed].sensitivity == calibration.operating_points[changed].sensitivity
    assert moved.thresholds[changed] != calibration.thresholds[changed]
    # And sets keep what they hold.
    sets = [one.prediction_sets(fresh["fused"][ALL], ALL) for one in (calibration, moved)]
    assert np.array_equal(*sets)
    if not findings.exclusive:
        assert np.allclose(covered(moved, fresh), 0.9, atol=0.04)


def test_intervals_move_with_the_prevalence(every_kind: Calibration) -> None:
    name = every_kind.findings.names[1]
    moved = every_kind.at_prevalence({name: 0.9})
    logits = simulate(every_kind.findings, 200, 13, missing=0)["fused"]["image"]
    p, intervals = moved.probabilities(logits, "image"), moved.intervals(logits, "image")
    assert (intervals[..., 0] <= p).all()
    assert (p <= intervals[..., 1]).all()
    before = every_kind.intervals(logits, "image")
    assert (intervals[:, 1] >= before[:, 1]).all()
    inside = (before[:, 1] > 0) & (before[:, 1] < 1)
    if not every_kind.findings.exclusive:
        added = logit(intervals[:, 1][inside]) - logit(before[:, 1][inside])
        assert np.allclose(added, logit(0.9) - every_kind.prior_log_odds[1])


def test_prevalence_is_given_once(every_kind: Calibration) -> None:
    """A second telling replaces the first; the calibration split's own changes nothing."""
    names = every_kind.findings.names
    once, twice = (
        every_kind.at_prevalence({names[0]: 0.6}),
        every_kind.at_prevalence({names[0]: 0.05}).at_prevalence({names[0]: 0.6}),
    )
    logits = [[0.3, -0.4, 0.8][: len(names)]]
    for one in (twice, replace(once)):
        assert np.allclose(one.log_odds(logits, "text"), once.log_odds(logits, "text"))
        assert np.allclose(one.thresholds, once.thresholds)
    own = dict(zip(names, expit(every_kind.prior_log_odds).tolist(), strict=True))
    assert np.allclose(every_kind.at_prevalence(own).log_odds(logits, "text"), every_kind.log_odds(logits, "text"))
    assert every_kind.at_prevalence({}).log_odds(logits, "none").tolist() == [
        pytest.approx(list(every_kind.prior_log_odds))
    ]


@pytest.mark.parametrize(
    ("findings", "prevalence", "field"),
    [
        (FINDINGS, {"gout": 0.1}, "prevalence"),
        (FINDINGS, {"effusion": 0.0}, "prevalence.effusion"),
        (FINDINGS, {"effusion": 1.0}, "prevalence.effusion"),
        (FINDINGS, {"effusion": float("nan")}, "prevalence.effusion"),
        (CLASSES, {"viral": 0.5, "bacterial": 0.5}, "prevalence"),
        (CLASSES, {"viral": 0.5, "bacterial": 0.3, "none": 0.3}, "prevalence"),
    ],
)
def test_a_prevalence_that_cannot_be_is_refused(
    calibration: Calibration, classes: Calibration, findings: FindingSet, prevalence: dict, field: str
) -> None:
    with pytest.raises(InputError) as raised:
        (classes if findings.exclusive else calibration).at_prevalence(prevalence)
    assert raised.value.field == field
