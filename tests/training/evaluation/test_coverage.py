from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import betabinom

from consilium.calibration import Calibration, quantile_rank
from consilium.configuration.recipe import CalibrationRecipe
from consilium.domain.findings import Finding, FindingSet
from tests.training.simulated import FINDINGS, simulate
from training.evaluation.coverage import SetAnswers, coverage_band, coverage_table
from training.evaluation.evaluate import calibrate
from training.evaluation.predictions import Predictions

ALL = "image+text+observations"


@pytest.fixture(scope="module")
def evaluated() -> tuple[Predictions, Calibration, SetAnswers, pd.DataFrame]:
    predictions = simulate(1500, 31)[0]
    calibration = calibrate(simulate(1500, 30)[0], FINDINGS, CalibrationRecipe(method="scaling"), bootstrap=10, seed=1)
    answers = SetAnswers.of(predictions, calibration)
    return predictions, calibration, answers, coverage_table(FINDINGS, predictions.labels, answers)


def line_of(table: pd.DataFrame, finding: str, answer: str, subset: str) -> pd.Series:
    lines = table[(table["finding"] == finding) & (table["class"] == answer) & (table["subset"] == subset)]
    assert len(lines) == 1
    return lines.iloc[0]


def test_a_line_by_hand(evaluated) -> None:
    predictions, calibration, answers, table = evaluated
    here = (predictions.subsets == ALL) & (predictions.labels[:, 1] == 1)
    sets = calibration.prediction_sets(predictions.fused[ALL][here], ALL)[:, 1]
    size = calibration.conformal.of(1, ALL).present
    line = line_of(table, "effusion", "present", ALL)
    assert line["n"] == here.sum()
    assert line["fitted_on"] == str(size)
    assert line["coverage"] == sets[:, 1].mean()
    assert line["set_size"] == sets.sum(axis=1).mean()
    assert line["both"] == sets.all(axis=1).mean()
    assert line["empty"] == (~sets.any(axis=1)).mean()
    rank = quantile_rank(size, 0.9)
    band = betabinom.ppf([0.025, 0.975], here.sum(), rank, size + 1 - rank) / here.sum()
    assert [line["band_low"], line["band_high"]] == pytest.approx(band)
    assert line["in_band"] == (band[0] <= line["coverage"] <= band[1])
    widths = np.diff(calibration.intervals(predictions.fused[ALL][here], ALL)[:, 1])
    assert line["interval_width"] == pytest.approx(widths.mean())
    assert np.array_equal(answers.sets[here, 1], sets)


def test_all_studies_are_there_once_each_with_the_modalities_it_has(evaluated) -> None:
    predictions, _, answers, table = evaluated
    present = predictions.subsets != "none"
    assert present.sum() < len(predictions)
    assert answers.sets[~present].all()
    assert np.isnan(answers.intervals[~present]).all()
    for f, name in enumerate(FINDINGS.names):
        for answer, value in (("absent", 0), ("present", 1)):
            whole = line_of(table, name, answer, "as_present")
            assert whole["n"] == (present & (predictions.labels[:, f] == value)).sum()
            lines = table[(table["finding"] == name) & (table["class"] == answer)]
            subsets = lines[lines["subset"].isin(np.unique(predictions.subsets))]
            assert subsets["n"].sum() == whole["n"]
            assert np.average(subsets["coverage"], weights=subsets["n"]) == pytest.approx(whole["coverage"])


def test_subsets_that_share_a_group_share_a_band(evaluated) -> None:
    _, calibration, _, table = evaluated
    pooled = next(group for group in calibration.conformal.groups[0] if group.kind == "pooled")
    assert len(pooled.subsets) > 1
    together = line_of(table, "pneumonia", "absent", ", ".join(pooled.subsets) + " together")
    parts = [line_of(table, "pneumonia", "absent", subset) for subset in pooled.subsets]
    assert together["n"] == sum(part["n"] for part in parts)
    assert together["fitted_on"] == str(pooled.absent)
    assert together["in_band"] is not None
    assert all(part["in_band"] is None and np.isnan(part["band_low"]) for part in parts)


def test_the_band_of_groups_is_that_of_their_sum() -> None:
    """Against a draw of thresholds and studies, ten thousand times."""
    groups, rng = [(60, 40), (25, 12), (9, 5)], np.random.default_rng(0)
    counts = np.zeros(20000)
    for studies, size in groups:
        rank = quantile_rank(size, 0.9)
        share = rng.beta(rank, size + 1 - rank, 20000) if rank <= size else np.ones(20000)
        counts += rng.binomial(studies, share)
    low, high = coverage_band(groups, 0.9)
    assert (low, high) == pytest.approx(np.percentile(counts, [2.5, 97.5]), abs=1)
    assert coverage_band([(9, 5)], 0.9) == (9, 9)  # a group of five rules nothing out
    assert coverage_band([], 0.9) == (0, 0)


def test_coverage_of_sound_models_is_in_band_and_of_cheated_ones_is_not() -> None:
    """The whole way, 25 times: fit on some studies, cover others."""
    inside, lines = 0, 0
    for seed in range(25):
        calibration = calibrate(
            simulate(500, 1000 + seed)[0], FINDINGS, CalibrationRecipe(method="scaling"), bootstrap=2, seed=seed
        )
        predictions = simulate(400, 2000 + seed)[0]
        table = coverage_table(FINDINGS, predictions.labels, SetAnswers.of(predictions, calibration))
        whole = table[table["subset"] == "as_present"]
        inside += int(whole["in_band"].sum())
        lines += len(whole)
    assert lines == 100
    assert inside >= 89  # 95 expected; the lines of a fit are related, and so rarely fail alone
    # Logits that say more in the calibration split than in the hospital.
    leaking = simulate(2000, 7, leak=2.0)[0]
    calibration = calibrate(leaking, FINDINGS, CalibrationRecipe(method="scaling"), bootstrap=2, seed=1)
    predictions = simulate(2000, 8)[0]
    table = coverage_table(FINDINGS, predictions.labels, SetAnswers.of(predictions, calibration))
    broken = table[(table["subset"] == "as_present") & (table["class"] == "present")]
    assert (broken["coverage"] < broken["band_low"]).all()
    assert not broken["in_band"].any()


def test_exclusive_findings_have_sets_of_classes() -> None:
    findings = FindingSet(tuple(Finding(name, name.title()) for name in "abc"), exclusive=True)

    def draw(seed: int) -> Predictions:
        predictions = simulate(900, seed, missing=0)[0]
        rng = np.random.default_rng(seed)
        labels = np.eye(3)[rng.choice(3, 900, p=[0.5, 0.3, 0.2])]
        fused = {subset: 1.5 * labels + rng.normal(size=labels.shape) for subset in predictions.fused}
        return replace(predictions, labels=labels, fused=fused, unimodal={})

    calibration = calibrate(draw(1), findings, CalibrationRecipe(method="scaling"), bootstrap=2, seed=1)
    predictions = draw(2)
    answers = SetAnswers.of(predictions, calibration)
    table = coverage_table(findings, predictions.labels, answers)
    assert set(table["class"]) == {"present"}
    line = line_of(table, "b", "present", "as_present")
    own = answers.sets[predictions.labels[:, 1] == 1]
    assert line["coverage"] == own[:, 1, 1].mean() == pytest.approx(0.9, abs=0.07)
    assert line["set_size"] == own[..., 1].sum(axis=1).mean()
    assert line["both"] == (own[..., 1].sum(axis=1) > 1).mean()


def test_out_of_fold_bands_suppose_the_smallest_group(evaluated) -> None:
    predictions, calibration, answers, _ = evaluated
    fewer = calibrate(simulate(600, 33)[0], FINDINGS, CalibrationRecipe(method="scaling"), bootstrap=2, seed=1)
    halves = [predictions.select(np.arange(750)), predictions.select(np.arange(750, 1500))]
    pooled = SetAnswers.concatenate([SetAnswers.of(halves[0], calibration), SetAnswers.of(halves[1], fewer)])
    assert np.array_equal(pooled.sets[:750], answers.sets[:750])
    labels = predictions.labels
    apart, together = (coverage_table(FINDINGS, labels, pooled, out_of_fold=o) for o in (False, True))
    narrow, wide = (line_of(table, "pneumonia", "present", ALL) for table in (apart, together))
    size = min(one.conformal.of(0, ALL).present for one in (calibration, fewer))
    low, high = coverage_band([(int(wide["n"]), size)], 0.9)
    assert [wide["band_low"], wide["band_high"]] == pytest.approx([low / wide["n"], high / wide["n"]])
    assert wide["band_low"] < narrow["band_low"]
    assert "/" in wide["fitted_on"]


def test_an_out_of_fold_band_is_the_widest_where_a_fold_has_too_few_held_out() -> None:
    """Of 40 studies half have a group of five, which rules nothing out, a quarter by twelve and a quarter by 60."""
    size = np.repeat([5, 12, 60], [20, 10, 10])
    answers = SetAnswers(
        coverage=0.9,
        subsets=np.full(40, "image"),
        sets=np.ones((40, 1, 2), bool),
        intervals=np.tile([0.0, 1.0], (40, 1, 1)),
        shared_by=np.full((40, 1), "image"),
        fitted_on=np.repeat(size[:, None, None], 2, axis=2),
    )
    findings = FindingSet((Finding("gout", "Gout"),))
    line = line_of(
        coverage_table(findings, np.ones((40, 1)), answers, out_of_fold=True), "gout", "present", "as_present"
    )
    assert line["fitted_on"] == "5/12/60"
    # betabinom(40, 12, 1): the threshold of a group of twelve is their highest score.
    assert line["band_low"] == coverage_band([(40, 12)], 0.9)[0] / 40 == pytest.approx(0.725, abs=0.05)
    assert line["band_high"] == 1.0
    assert line["in_band"]


def test_a_class_without_a_study_is_not_measured(evaluated) -> None:
    predictions, _, answers, _ = evaluated
    labels = np.where(predictions.labels == 1, 0.0, predictions.labels)
    line = line_of(coverage_table(FINDINGS, labels, answers), "effusion", "present", "as_present")
    assert line["n"] == 0
    assert np.isnan(line["coverage"])
    assert line["in_band"] is None
