from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from consilium.configuration.recipe import CalibrationRecipe, ReferRecipe
from consilium.domain.diagnosis import (
    ABSENT,
    PRESENT,
    AuditVerdict,
    Estimate,
    FindingResult,
    OperatingPoint,
    OutOfDistributionScore,
)
from consilium.referral.reasons import Grounds, refer_by_part, refer_finding
from tests.training.simulated import FINDINGS, simulate
from training.evaluation.comparisons import MACRO
from training.evaluation.evaluate import calibrate, evaluate
from training.evaluation.predictions import Predictions
from training.evaluation.results import Evaluation
from training.evaluation.rows import AS_PRESENT
from training.evaluation.selective import (
    EVERYTHING,
    RULE,
    THRESHOLDS,
    Doubts,
    decision_curve,
    policies,
    prediction_sets,
    referred_by_part,
    risk_coverage,
    risk_curve,
    selective_tables,
)
from training.figures.selective_figures import decision_figure, risk_coverage_figure

ONES = np.ones((1, 4))
SHIPPED = CalibrationRecipe()


@pytest.mark.parametrize(
    ("scores", "weights", "shares", "risks"),
    [
        ([4, 3, 2, 1], [1, 1, 1, 1], [0.25, 0.5, 0.75, 1], [0, 1 / 2, 1 / 3, 1 / 2]),
        ([1, 2, 3, 4], [1, 1, 1, 1], [0.25, 0.5, 0.75, 1], [1, 1 / 2, 2 / 3, 1 / 2]),
        ([5, 5, 5, 5], [1, 1, 1, 1], [0.25, 0.5, 0.75, 1], [1 / 2, 1 / 2, 1 / 2, 1 / 2]),
        ([9, 5, 5, 1], [1, 1, 1, 1], [0.25, 0.5, 0.75, 1], [0, 0.5 / 2, 1 / 3, 1 / 2]),
        ([4, 3, 2, 1], [2, 1, 1, 0], [0.5, 0.75, 1, 1], [0, 1 / 3, 1 / 4, 1 / 4]),
        ([4, 3, 2, 1], [0, 1, 1, 2], [0, 0.25, 0.5, 1], [0, 1, 1 / 2, 3 / 4]),
    ],
)
def test_risk_curves_by_hand(scores: list, weights: list, shares: list, risks: list) -> None:
    found = risk_curve(np.array([0.0, 1, 0, 1]), np.array(scores, float), np.array([weights], float))
    assert found[0][0] == pytest.approx(shares)
    assert found[1][0] == pytest.approx(risks)


def test_areas_lie_between_the_best_order_and_the_worst() -> None:
    rng = np.random.default_rng(0)
    errors = (rng.random((400, 2)) < 0.3).astype(float)
    errors[:20, 1] = np.nan
    orders = {
        "perfect": -np.nan_to_num(errors),
        "blind": np.zeros((400, 2)),
        "wrong": np.nan_to_num(errors),
        "middling": rng.normal(size=(400, 2)) - np.nan_to_num(errors),
    }
    curves, areas = risk_coverage(FINDINGS, errors, orders, np.ones((3, 400)))
    by_order = areas.set_index(["order", "finding"])
    for f, finding in enumerate((*FINDINGS.names, MACRO)):
        rate = np.nanmean(errors, axis=0).mean() if finding == MACRO else np.nanmean(errors[:, f])
        line = {order: by_order.loc[(order, finding)] for order in orders}
        assert line["blind"]["aurc"] == pytest.approx(rate)
        assert line["perfect"]["aurc"] == pytest.approx(line["perfect"]["best"])
        assert line["perfect"]["aurc"] < line["middling"]["aurc"] < line["blind"]["aurc"] < line["wrong"]["aurc"]
        assert line["middling"]["random"] == pytest.approx(rate)
    # Errors last: the risk at coverage c is (c - (1 - r)) / c with a share r of errors, the area r + (1 - r) ln(1 - r).
    r = errors[:, 0].mean()
    assert by_order.loc[("perfect", "pneumonia"), "aurc"] == pytest.approx(r + (1 - r) * np.log(1 - r), abs=2e-3)
    blind = curves[(curves["order"] == "blind") & (curves["finding"] == MACRO)]["error"]
    assert blind.tolist() == pytest.approx([blind.iloc[-1]] * len(blind))
    assert curves["answered"].max() == 1


def test_policies_by_hand() -> None:
    labels = np.array([[1, 0], [1, 1], [0, 0], [0, np.nan]])
    errors = np.array([[0, 1], [1, 0], [0, 0], [1, np.nan]])
    referred = {
        "both": np.array([[False, False], [True, False], [False, True], [False, False]]),
        "out_of_distribution": np.array([[False, False], [False, False], [False, False], [True, True]]),
    }
    table = policies(FINDINGS, errors, labels, referred, ONES).set_index(["policy", "finding"])
    first, second = FINDINGS.names
    assert table.loc[(EVERYTHING, first), ["answered", "error", "sensitivity", "specificity"]].tolist() == [
        1,
        0.5,
        0.5,
        0.5,
    ]
    assert np.isnan(table.loc[(EVERYTHING, first), "error_referred"])
    assert table.loc[("both", first), ["answered", "error", "error_referred", "sensitivity"]].tolist() == [
        0.75,
        pytest.approx(1 / 3),
        1,
        1,
    ]
    assert table.loc[("both", second), ["answered", "error", "error_referred"]].tolist() == [0.75, 0.5, 0]
    assert table.loc[(RULE, first), ["answered", "error", "error_referred"]].tolist() == [0.5, 0, 1]
    assert table.loc[(RULE, MACRO), "error"] == pytest.approx((0 + 0.5) / 2)
    assert table.loc[(RULE, MACRO), ["answered", "silent"]].tolist() == [0.5, 0.25]
    assert (table.loc["both", "silent"] == 0).all()


def test_net_benefit_is_vickers_and_elkins_formula() -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random((300, 2)) < 0.3).astype(float)
    probabilities = np.clip(0.3 + 0.3 * (labels - 0.3) + rng.normal(0, 0.15, (300, 2)), 0.01, 0.99)
    labels[:30, 1] = np.nan
    table = decision_curve(FINDINGS, labels, probabilities, np.ones((1, 300)))
    assert len(table) == 2 * len(THRESHOLDS)
    for f, finding in enumerate(FINDINGS.names):
        known = ~np.isnan(labels[:, f])
        y, p = labels[known, f] == 1, probabilities[known, f]
        for _, line in table[table["finding"] == finding].iterrows():
            t = line["threshold"]
            called = p >= t
            expected = (called & y).mean() - (called & ~y).mean() * t / (1 - t)
            everyone = y.mean() - (1 - y.mean()) * t / (1 - t)
            assert line["net_benefit"] == pytest.approx(expected, abs=1e-9)
            assert line["treat_all"] == pytest.approx(everyone, abs=1e-9)
            assert line["gain"] == pytest.approx(expected - max(everyone, 0), abs=1e-9)


Evaluated = tuple[Evaluation, Doubts, Predictions, Any]


@pytest.fixture(scope="module")
def evaluated() -> Evaluated:
    held_out, _ = simulate(600, 1)
    tested, _ = simulate(500, 2)
    calibration = calibrate(held_out, FINDINGS, SHIPPED, bootstrap=20, seed=0)
    evaluation = evaluate(tested, calibration, FINDINGS, bootstrap=20, seed=0)
    rng = np.random.default_rng(3)
    p_values = {"image": np.where(tested.present["image"], rng.random(500), np.nan), "fused": rng.random(500)}
    doubts = Doubts(
        prediction_sets(tested, calibration),
        p_values,
        {part: rng.random(500) < 0.05 for part in ("image_quality", "unknown_origin", "contradictions")},
    )
    return evaluation, doubts, tested, calibration


def test_sets_are_the_calibrations_given_what_each_study_has(evaluated: Evaluated) -> None:
    _, doubts, tested, calibration = evaluated
    for row, subset in enumerate(tested.subsets.tolist()):
        if subset == "none":
            assert doubts.sets[row].all()
        else:
            expected = calibration.prediction_sets(tested.fused[subset][row], subset)
            assert np.array_equal(doubts.sets[row], expected)


def _referred(rule: ReferRecipe, doubts: Doubts, tested: Predictions, row: int) -> dict[str, list[bool]]:
    """What `consilium.referral.reasons` says of each finding of one study, image quality aside."""
    point = OperatingPoint(0.5, 0.9, Estimate(0.9, 0.8, 1), Estimate(0.9, 0.8, 1))
    answers = [tuple(a for a, there in zip((ABSENT, PRESENT), s, strict=True) if there) for s in doubts.sets[row]]
    results = tuple(
        FindingResult(
            *(finding.name, finding.display, finding.code),
            0.5,
            True,
            point,
            {},
            (0, 1),
            chosen,
            refer_finding(rule, chosen, 0.9),
        )
        for finding, chosen in zip(FINDINGS, answers, strict=True)
    )
    unusual = tuple(
        OutOfDistributionScore(
            part, 0.0, values[row], out_of_distribution=bool(values[row] < (rule.out_of_distribution or 0))
        )
        for part, values in doubts.p_values.items()
        if not np.isnan(values[row])
    )
    modalities = tuple(m for m, there in tested.present.items() if there[row])
    records = doubts.records
    image = SimpleNamespace(
        arrays={"images": ()}, letterboxes=(), unknown_origin=("a",) * int(records["unknown_origin"][row])
    )
    study = SimpleNamespace(contradictions=("a",) * int(records["contradictions"][row]))
    item: Any = SimpleNamespace(parts={"image": image}, study=study)
    found = refer_by_part(rule, Grounds(item, modalities, results, unusual, AuditVerdict()))
    single = [bool(result.refer_reasons) for result in results]
    assert bool(found["both"]) == all(single)
    return {part: single if part == "both" else [bool(reasons)] * len(single) for part, reasons in found.items()}


def test_many_studies_are_referred_as_one_is(evaluated: Evaluated) -> None:
    _, doubts, tested, _ = evaluated
    rule = ReferRecipe(out_of_distribution=0.1, required=("text", "image"))
    found = referred_by_part(rule, doubts, tested.present)
    for row in range(200):
        one = _referred(rule, doubts, tested, row)
        for part in ("both", "out_of_distribution", "required", "contradictions", "unknown_origin"):
            assert found[part][row].tolist() == one[part]
    assert np.array_equal(found["image_quality"][:, 0], doubts.records["image_quality"])
    for part in ("both", "out_of_distribution", "required"):
        assert 0.03 < found[part].mean() < 0.97
    checks = {"image_quality": False, "unknown_origin": False}
    off = ReferRecipe(both=False, out_of_distribution=None, contradictions=False, checks=checks)
    assert referred_by_part(off, doubts, tested.present) == {}


@pytest.fixture(scope="module")
def tables(evaluated: Evaluated) -> dict[str, pd.DataFrame]:
    evaluation, doubts, tested, _ = evaluated
    return selective_tables(evaluation, ReferRecipe(), doubts, tested.present, bootstrap=20, seed=0)


def test_the_tables_are_of_the_answers_that_the_service_would_give(
    evaluated: Evaluated, tables: dict[str, pd.DataFrame]
) -> None:
    evaluation, doubts, *_ = evaluated
    probabilities, labels = evaluation.probabilities[AS_PRESENT], evaluation.labels
    wrong = (probabilities >= evaluation.thresholds) != (labels == 1)
    known = ~np.isnan(labels) & ~np.isnan(probabilities)
    lines = tables["selective"].set_index(["policy", "finding"])
    for f, finding in enumerate(FINDINGS.names):
        assert lines.loc[(EVERYTHING, finding), "error"] == pytest.approx(wrong[known[:, f], f].mean())
        specificity = evaluation.value("metrics", "specificity", row=AS_PRESENT, finding=finding)
        assert lines.loc[(EVERYTHING, finding), "specificity"] == pytest.approx(specificity)
    single = doubts.sets.sum(axis=2) == 1
    assert lines.loc[("both", MACRO), "answered"] == pytest.approx(single.mean())
    assert lines.loc[("both", FINDINGS.names[0]), "answered"] == pytest.approx(single[:, 0].mean())
    assert lines.loc[("both", MACRO), "silent"] == pytest.approx((~single).all(axis=1).mean())
    assert lines.loc[("both", MACRO), "error"] < lines.loc[(EVERYTHING, MACRO), "error"]
    assert lines.loc[("both", MACRO), "error_low"] < lines.loc[("both", MACRO), "error_high"]
    last = tables["risk_coverage"].query("order == 'confidence' and answered == 1").set_index("finding")["error"]
    assert last.loc[MACRO] == pytest.approx(lines.loc[(EVERYTHING, MACRO), "error"])


def test_being_sure_is_worth_more_than_being_ordinary(tables: dict[str, pd.DataFrame]) -> None:
    area = tables["aurc"].query(f"finding == '{MACRO}'").set_index("order")["aurc"]
    assert area["prediction_set"] < area["out_of_distribution"], "p-values drawn at random know nothing"
    assert area["confidence"] < area["out_of_distribution"]


def test_without_a_detector_there_is_no_order_by_it(evaluated: Evaluated) -> None:
    evaluation, doubts, tested, _ = evaluated
    bare = selective_tables(
        evaluation,
        ReferRecipe(out_of_distribution=None),
        replace(doubts, p_values={}),
        tested.present,
        bootstrap=5,
        seed=0,
    )
    assert set(bare["aurc"]["order"]) == {"confidence", "prediction_set"}
    assert "out_of_distribution" not in set(bare["selective"]["policy"])


def test_figures_are_drawn_of_every_finding(tables: dict[str, pd.DataFrame], tmp_path) -> None:
    risk = risk_coverage_figure(FINDINGS, tables)
    decision = decision_figure(FINDINGS, tables["decision_curve"])
    for figure, lines in ((risk, 4), (decision, 3)):
        panels = [panel for panel in figure.axes if panel.get_visible()]
        assert [panel.get_title(loc="left") for panel in panels] == [finding.display for finding in FINDINGS]
        assert all(len(panel.get_lines()) == lines for panel in panels)
        figure.savefig(tmp_path / "figure.png")
    first = tables["risk_coverage"].query("order == 'confidence' and finding == 'pneumonia'")["error"].to_numpy()
    assert risk.axes[0].get_lines()[0].get_ydata() == pytest.approx(first)
