from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit, softmax

from consilium.calibration import METHODS, Calibrator, Scaling, choose_method, fit_calibrator
from consilium.calibration.calibrator import log_odds
from consilium.calibration.curves import Curve
from consilium.errors import InputError
from consilium.findings import FindingSet

from .simulated import CLASSES, FINDINGS, calibration_gap, simulate


def nll_on_fresh_studies(findings: FindingSet, case: dict, fresh: dict) -> dict[str, float]:
    found = {}
    for method in METHODS:
        calibrator = fit_calibrator(method, findings, case["labels"], case["fused"], logit(case["prevalence"]))
        losses = []
        for subset, logits in fresh["fused"].items():
            scores = calibrator(logits, subset, exclusive=findings.exclusive)
            p = softmax(scores, axis=1) if findings.exclusive else expit(scores)
            likelihood = (
                (p * fresh["labels"]).sum(axis=1) if findings.exclusive else np.where(fresh["labels"], p, 1 - p)
            )
            losses.append(-np.nanmean(np.log(likelihood)))
        found[method] = float(np.mean(losses))
    return found


def choose(findings: FindingSet, case: dict, patients: np.ndarray | None = None) -> tuple[str, dict[str, float]]:
    patients = np.arange(len(case["labels"])) if patients is None else patients
    return choose_method(findings, case["labels"], patients, case["fused"], logit(case["prevalence"]), 1)


def one_subset(case: dict) -> dict:
    return case | {"fused": {"image+text+observations": case["fused"]["image+text+observations"]}}


@pytest.mark.parametrize(("findings", "many", "bent"), [(FINDINGS, 3000, 1.5), (CLASSES, 1500, 1.8)])
def test_auto_takes_scaling_where_studies_are_few_and_a_curve_where_many_show_a_bend(
    findings: FindingSet, many: int, bent: float
) -> None:
    """The same model both times, and no scaling can undo what it does to its logits."""
    few = [choose(findings, one_subset(simulate(findings, 60, seed, missing=0, bent=bent)))[0] for seed in range(4)]
    assert few == ["scaling"] * 4
    case, fresh = simulate(findings, many, 3, bent=bent), simulate(findings, 6000, 9, bent=bent)
    chosen, nll = choose(findings, case)
    assert chosen == "isotonic" == min(nll, key=nll.__getitem__)
    # And it is right on studies that nobody has seen.
    truth = nll_on_fresh_studies(findings, case, fresh)
    assert truth["isotonic"] == min(truth.values()) < truth["scaling"] - 0.001


def test_isotonic_loses_to_scaling_on_few_studies_of_a_straight_model() -> None:
    fresh = one_subset(simulate(FINDINGS, 4000, 99, missing=0))
    for seed in range(3):
        case = one_subset(simulate(FINDINGS, 400, 10 + seed, missing=0))
        truth = nll_on_fresh_studies(FINDINGS, case, fresh)
        assert truth["isotonic"] > truth["scaling"] + 0.001
        assert truth["venn_abers"] > truth["scaling"] + 0.001
        chosen, nll = choose(FINDINGS, case)
        assert chosen == "scaling"
        assert set(nll) == {"scaling", "isotonic", "venn_abers"}  # vector scaling of independent findings is scaling


def test_a_bend_that_could_be_chance_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    gains = np.r_[np.full(50, -0.1), np.full(50, 0.08)]  # -.01 on average, with a standard error of .009
    found = {"scaling": np.ones(100), "isotonic": 1 + gains, "venn_abers": 1 + gains * 0.98}
    monkeypatch.setattr("consilium.calibration.calibrator._cross_validated", lambda *_: found)
    case = simulate(FINDINGS, 100, 1)
    assert choose(FINDINGS, case)[0] == "isotonic"
    found["isotonic"] = 1 + np.r_[np.full(50, -0.2), np.full(50, 0.18)]  # the same with .019
    assert choose(FINDINGS, case)[0] == "venn_abers"
    found["venn_abers"] = found["isotonic"]
    assert choose(FINDINGS, case)[0] == "scaling"


def test_the_cross_validated_nll_is_that_of_new_studies() -> None:
    """Studies of one patient share a fold: copies of a study would flatter what bends most."""
    case = simulate(FINDINGS, 300, 6)
    copies = {key: np.repeat(case[key], 4, axis=0) for key in ("labels", "present")}
    copies["fused"] = {subset: np.repeat(values, 4, axis=0) for subset, values in case["fused"].items()}
    copies["prevalence"] = case["prevalence"]
    _, apart = choose(FINDINGS, copies)
    _, together = choose(FINDINGS, copies, np.repeat(np.arange(300), 4))
    truth = nll_on_fresh_studies(FINDINGS, copies, simulate(FINDINGS, 6000, 7))
    assert apart["isotonic"] < apart["scaling"]
    assert together["isotonic"] > together["scaling"]
    assert truth["isotonic"] > truth["scaling"]


def test_few_patients_are_not_compared_on() -> None:
    case = simulate(FINDINGS, 200, 8)
    case["labels"][:, 1] = 0
    case["labels"][:9, 1] = 1
    assert choose(FINDINGS, case) == ("scaling", {})
    # Ten positive studies of nine patients are nine.
    case["labels"][9, 1] = 1
    assert choose(FINDINGS, case)[1] != {}
    assert choose(FINDINGS, case, np.r_[0, np.arange(199)]) == ("scaling", {})


@pytest.mark.parametrize("method", ["isotonic", "venn_abers"])
@pytest.mark.parametrize("findings", [FINDINGS, CLASSES])
def test_curves_calibrate_what_scaling_cannot(findings: FindingSet, method: str) -> None:
    case, fresh = simulate(findings, 4000, 1, bent=1.8), simulate(findings, 20000, 2, bent=1.8)
    gaps: dict[str, list[float]] = {}
    for name in ("scaling", method):
        calibrator = fit_calibrator(name, findings, case["labels"], case["fused"], logit(case["prevalence"]))
        scores = calibrator(fresh["fused"]["text"], "text", exclusive=findings.exclusive)
        p = expit(log_odds(scores, exclusive=findings.exclusive))
        if findings.exclusive:
            assert np.allclose(p[~np.isnan(p[:, 0])].sum(axis=1), 1)
        gaps[name] = [calibration_gap(fresh["labels"][:, f], p[:, f]) for f in range(len(findings))]
    assert np.mean(gaps[method]) < np.mean(gaps["scaling"])
    assert max(gaps[method]) < 0.04


def test_vector_scaling_of_independent_findings_is_the_scaling() -> None:
    case = simulate(FINDINGS, 200, 1)
    vector, scaling = (
        fit_calibrator(name, FINDINGS, case["labels"], case["fused"], logit(case["prevalence"]))
        for name in ("vector", "scaling")
    )
    assert vector == scaling


def test_classes_bent_one_by_one_add_up_to_one() -> None:
    up, straight = Curve((0.0,), (1.0,)), Curve((0.0,), (0.0,))
    calibrator = Calibrator(Scaling({"text": (1.0,) * 3}, {"text": (0.0,) * 3}), (up, up, straight))
    scores = calibrator(np.log([[0.5, 0.3, 0.2]]), "text", exclusive=True)
    raw = expit(np.array([logit(0.5) + 1, logit(0.3) + 1, logit(0.2)]))
    assert np.allclose(softmax(scores, axis=-1), raw / raw.sum())


def test_a_calibrator_that_is_none_is_refused() -> None:
    scaling = Scaling({"text": (1.0, 1.0)}, {"text": (0.0, 0.0)})
    Calibrator(scaling, (Curve((0.0,), (0.0,)),) * 2).require_sound("fused", 2)
    with pytest.raises(InputError, match="curves"):
        Calibrator(scaling, (Curve((0.0,), (0.0,)),)).require_sound("fused", 2)
    with pytest.raises(InputError, match="scaling"):
        Calibrator(Scaling({"text": (1.0, -1.0)}, {"text": (0.0, 0.0)})).require_sound("fused", 2)
    with pytest.raises(InputError, match="same subsets"):
        Calibrator(Scaling({"text": (1.0, 1.0)}, {"image": (0.0, 0.0)})).require_sound("fused", 2)
