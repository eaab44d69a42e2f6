from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit, softmax

from consilium.calibration import METHODS, Choice, Shrinkage, choose, fit_calibrator
from consilium.domain.findings import FindingSet
from tests.consilium.calibration.simulated import CLASSES, FINDINGS, SHIFT, STRETCH, simulate


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


def choice_of(findings: FindingSet, case: dict, patients: np.ndarray | None = None, method: str = "auto") -> Choice:
    patients = np.arange(len(case["labels"])) if patients is None else patients
    return choose(method, findings, case["labels"], patients, case["fused"], logit(case["prevalence"]), 1)


def one_subset(case: dict) -> dict:
    return case | {"fused": {"image+text+observations": case["fused"]["image+text+observations"]}}


@pytest.mark.parametrize(("findings", "many", "bent"), [(FINDINGS, 3000, 1.5), (CLASSES, 1500, 1.8)])
def test_auto_takes_scaling_where_studies_are_few_and_a_curve_where_many_show_a_bend(
    findings: FindingSet, many: int, bent: float
) -> None:
    """The same model both times, and no scaling can undo what it does to its logits."""
    few = [
        choice_of(findings, one_subset(simulate(findings, 60, seed, missing=0, bent=bent))).method for seed in range(4)
    ]
    assert few == ["scaling"] * 4
    case, fresh = simulate(findings, many, 3, bent=bent), simulate(findings, 6000, 9, bent=bent)
    choice = choice_of(findings, case)
    assert choice.method == "isotonic" == min(choice.nll, key=choice.nll.__getitem__)
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
        choice = choice_of(FINDINGS, case)
        assert choice.method == "scaling"
        assert set(choice.nll) == {
            "scaling",
            "isotonic",
            "venn_abers",
        }  # vector scaling of independent findings is scaling


def test_a_bend_that_could_be_chance_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    gains = np.r_[np.full(50, -0.1), np.full(50, 0.08)]  # -.01 on average, with a standard error of .009
    found = {"scaling": np.ones(100), "isotonic": 1 + gains, "venn_abers": 1 + gains * 0.98}
    monkeypatch.setattr("consilium.calibration.selection._Folds.surprise", lambda *_: found)
    case = one_subset(simulate(FINDINGS, 100, 1))
    assert choice_of(FINDINGS, case).method == "isotonic"
    found["isotonic"] = 1 + np.r_[np.full(50, -0.2), np.full(50, 0.18)]  # the same with .019
    assert choice_of(FINDINGS, case).method == "venn_abers"
    found["venn_abers"] = found["isotonic"]
    assert choice_of(FINDINGS, case).method == "scaling"


@pytest.mark.parametrize("method", ["auto", "isotonic"])
def test_subsets_may_differ_as_much_as_they_do(method: str) -> None:
    """The simulated model stretches and shifts each subset its own way; or, straightened, all the same."""
    unlike = simulate(FINDINGS, 1500, 12)
    assert choice_of(FINDINGS, unlike, method=method).shrinkage == Shrinkage(0.3, 0.4)
    straight = {
        subset: values / STRETCH[subset] - SHIFT[subset] * np.array([1, -1])
        for subset, values in unlike["fused"].items()
    }
    alike = choice_of(FINDINGS, unlike | {"fused": straight}, method=method)
    assert alike.shrinkage == Shrinkage(0.05, 0.1)
    assert alike.method == ("scaling" if method == "auto" else method)
    fresh = simulate(FINDINGS, 6000, 13)
    prior = logit(unlike["prevalence"])
    nll = []
    for shrinkage in (Shrinkage(0.05, 0.1), Shrinkage(0.3, 0.4)):
        calibrator = fit_calibrator("scaling", FINDINGS, unlike["labels"], unlike["fused"], prior, shrinkage)
        p = expit(calibrator(fresh["fused"]["text"], "text", exclusive=False))
        nll.append(-np.nanmean(np.log(np.where(fresh["labels"] == 1, p, 1 - p))))
    assert nll[1] < nll[0]


def test_the_cross_validated_nll_is_that_of_new_studies() -> None:
    """Studies of one patient share a fold: copies of a study would flatter what bends most."""
    case = simulate(FINDINGS, 300, 6)
    copies = {key: np.repeat(case[key], 4, axis=0) for key in ("labels", "present")}
    copies["fused"] = {subset: np.repeat(values, 4, axis=0) for subset, values in case["fused"].items()}
    copies["prevalence"] = case["prevalence"]
    apart = choice_of(FINDINGS, copies).nll
    together = choice_of(FINDINGS, copies, np.repeat(np.arange(300), 4)).nll
    truth = nll_on_fresh_studies(FINDINGS, copies, simulate(FINDINGS, 6000, 7))
    assert apart["isotonic"] < apart["scaling"]
    assert together["isotonic"] > together["scaling"]
    assert truth["isotonic"] > truth["scaling"]


def test_few_patients_are_not_compared_on() -> None:
    case = simulate(FINDINGS, 200, 8)
    case["labels"][:, 1] = 0
    case["labels"][:9, 1] = 1
    assert choice_of(FINDINGS, case) == Choice("scaling")
    assert choice_of(FINDINGS, case, method="isotonic") == Choice("isotonic")
    # Ten positive studies of nine patients are nine.
    case["labels"][9, 1] = 1
    assert choice_of(FINDINGS, case).nll != {}
    assert choice_of(FINDINGS, case, np.r_[0, np.arange(199)]) == Choice("scaling")
