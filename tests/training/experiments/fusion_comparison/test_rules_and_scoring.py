"""Rules against hand calculation, figures against those of the ordinary evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss

from consilium.calibration import patient_bootstrap
from tests.consilium.tiny import THREE
from tests.training.simulated import FINDINGS, PREVALENCE, simulate
from training.evaluation.comparisons import oracle_shares, paired_differences
from training.evaluation.metrics import Sample
from training.evaluation.rows import ALL_PRESENT
from training.experiments.fusion_comparison.rules import mean_answer, product_of_experts, sum_of_log_odds, with_answers
from training.experiments.fusion_comparison.scoring import (
    Contender,
    TestStudies,
    difference_table,
    explaining_away_table,
    measure,
    share_table,
)
from training.experiments.fusion_comparison.trained import Trained, kept

IMAGE, TEXT, OBSERVATIONS = THREE
EVERYTHING = "image+text+observations"


def of(values: list[float]) -> np.ndarray:
    return np.array([values])


# --- rules -----------------------------------------------------------------------------------------------------------


def test_experts_multiply_their_odds_and_share_one_prior() -> None:
    unimodal = {IMAGE: of([0.8]), TEXT: of([0.6]), OBSERVATIONS: of([0.5])}
    odds = 4 * 1.5
    for prior, subset, expected in [
        (0.5, "image+text", odds / (1 + odds)),
        (0.2, "image+text", (odds / 0.25) / (1 + odds / 0.25)),
        (0.2, EVERYTHING, (odds / 0.25**2) / (1 + odds / 0.25**2)),
        (0.2, "image", 0.8),
    ]:
        found = product_of_experts(unimodal, np.array([prior]), subset, exclusive=False)
        assert found[0, 0] == pytest.approx(expected)


def test_experts_on_findings_that_exclude_each_other_multiply_probabilities() -> None:
    unimodal = {IMAGE: of([0.5, 0.3, 0.2]), TEXT: of([0.2, 0.2, 0.6])}
    prior = np.array([0.5, 0.25, 0.25])
    product = unimodal[IMAGE] * unimodal[TEXT] / prior
    found = product_of_experts(unimodal, prior, "image+text", exclusive=True)
    np.testing.assert_allclose(found, product / product.sum())


def test_experts_who_saw_independent_evidence_are_exactly_right_together() -> None:
    _, oracle = simulate(200, 3)
    unimodal = {modality: oracle.posteriors[modality] for modality in THREE}
    found = product_of_experts(unimodal, PREVALENCE, EVERYTHING, exclusive=False)
    np.testing.assert_allclose(found[:-1], oracle.posteriors[EVERYTHING][:-1], atol=1e-9)


def test_an_expert_who_is_sure_does_not_end_in_nan_and_one_who_is_absent_does() -> None:
    unimodal = {IMAGE: of([1.0]), TEXT: of([0.0]), OBSERVATIONS: of([np.nan])}
    assert product_of_experts(unimodal, np.array([0.5]), "image+text", exclusive=False)[0, 0] == pytest.approx(0.5)
    assert np.isnan(product_of_experts(unimodal, np.array([0.5]), "image+observations", exclusive=False)).all()


def test_a_plain_sum_counts_the_prior_with_every_expert() -> None:
    unimodal = {IMAGE: of([0.8]), TEXT: of([0.6]), OBSERVATIONS: of([0.2])}
    found = sum_of_log_odds(unimodal, EVERYTHING, exclusive=False)
    assert found[0, 0] == pytest.approx(4 * 1.5 * 0.25 / (1 + 4 * 1.5 * 0.25))


def test_answers_go_back_to_logits_and_their_mean_is_of_probabilities() -> None:
    predictions, _ = simulate(6, 0)
    first, second = ({key: expit(v + move) for key, v in predictions.fused.items()} for move in (0.0, 1.0))
    np.testing.assert_allclose(mean_answer([first, second])["text"], (first["text"] + second["text"]) / 2)
    back = with_answers(predictions, second, exclusive=False)
    for key, values in predictions.fused.items():
        np.testing.assert_allclose(back.fused[key], values + 1, atol=1e-6)
    assert back.study_ids.tolist() == predictions.study_ids.tolist()


# --- scoring ---------------------------------------------------------------------------------------------------------


def bench_of(
    studies: int = 300, replicates: int = 60
) -> tuple[TestStudies, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Test studies with an oracle, and two models' answers."""
    predictions, oracle = simulate(studies, 2)
    place = {study: row for row, study in enumerate(oracle.study_ids.tolist())}
    order = [place[study] for study in predictions.study_ids.tolist()]

    def in_line(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {key: np.where(np.isnan(predictions.fused[key]), np.nan, v) for key, v in values.items()}

    best = in_line({key: values[order] for key, values in oracle.posteriors.items()})
    model = in_line({key: expit(0.6 * values) for key, values in predictions.fused.items()})
    other = in_line({key: expit(0.6 * values + 0.3) for key, values in predictions.fused.items()})
    weights = patient_bootstrap(predictions.patient_ids, replicates, 0)
    confounded = np.arange(studies) % 3 == 0
    return TestStudies(FINDINGS, Sample(predictions.labels, weights), best, confounded), model, other


def line(table: object, **where: str) -> dict:
    for name, value in where.items():
        table = table[table[name] == value]  # type: ignore[index]
    (found,) = table.to_dict(orient="records")  # type: ignore[attr-defined]
    return found


def test_shares_of_one_seed_are_those_of_the_ordinary_evaluation() -> None:
    bench, model, _ = bench_of()
    contender = Contender("fusion/concat", (model,))
    table = share_table(bench, [contender], measure(bench, [contender]))
    expected = oracle_shares(FINDINGS, bench.sample, model, bench.oracle)
    for subset in model:
        for finding in (*FINDINGS.names, "macro"):
            found = line(table, subset=subset, finding=finding)
            right = line(expected, row=subset, finding=finding)
            for name in ("auroc", "nll", "n", "positives"):
                assert found[name] == pytest.approx(right[name])
            for name in ("auroc_share", "information_share"):
                for end in ("", "_low", "_high"):
                    assert found[name + end] == pytest.approx(right[name + end])
    assert table["auroc_sd"].isna().all()


def test_seeds_are_averaged_and_their_spread_is_reported() -> None:
    bench, model, other = bench_of()
    contenders = [Contender("a", (model,)), Contender("b", (other,)), Contender("both", (model, other))]
    table = share_table(bench, contenders, measure(bench, contenders))
    one, two, both = (line(table, contender=name, subset=EVERYTHING, finding="macro") for name in ("a", "b", "both"))
    for name in ("nll", "information_share"):
        assert both[name] == pytest.approx((one[name] + two[name]) / 2)
        assert both[f"{name}_sd"] == pytest.approx(abs(one[name] - two[name]) / np.sqrt(2))
    assert (both["seeds"], one["seeds"]) == (2, 1)


def test_differences_are_paired() -> None:
    bench, model, other = bench_of()
    contenders = [Contender("a", (model,)), Contender("b", (other,))]
    table = difference_table(measure(bench, contenders), ["b"])
    expected = paired_differences(FINDINGS, bench.sample, {"a": model["text"], "b": other["text"]}, [("a", "b")])
    for finding in (*FINDINGS.names, "macro"):
        found, right = line(table, subset="text", finding=finding), line(expected, finding=finding)
        for name in ("auroc_difference", "nll_difference"):
            for end in ("", "_low", "_high"):
                assert found[name + end] == pytest.approx(right[name + end])


def test_who_answers_other_studies_is_not_compared() -> None:
    bench, model, other = bench_of()
    fewer = {"text": np.where(np.arange(300)[:, None] < 150, other["text"], np.nan)}
    contenders = [Contender("a", (model,)), Contender("b", (fewer,))]
    assert difference_table(measure(bench, contenders), ["a"]).empty
    assert explaining_away_table(bench, contenders, ["a"], ["text"]).empty


def test_explaining_away_is_separated_by_confounder() -> None:
    bench, model, other = bench_of()
    contenders = [Contender("rule", (model,)), Contender("fused", (other, model))]
    table = explaining_away_table(bench, contenders, ["rule"], [EVERYTHING])
    for group, inside in (("with_confounder", bench.confounded), ("without_confounder", ~bench.confounded)):
        found = line(table, studies=group, finding="pneumonia")
        labels = bench.sample.labels[:, 0]
        rows = inside & ~np.isnan(labels) & ~np.isnan(model[EVERYTHING][:, 0])
        losses = [log_loss(labels[rows], answer[EVERYTHING][rows, 0]) for answer in (model, other)]
        assert found["n"] == rows.sum()
        assert found["nll_difference"] == pytest.approx((losses[1] - losses[0]) / 2)
        assert found["nll_difference_low"] < found["nll_difference"] < found["nll_difference_high"]
    assert set(table["contender"]) == {"fused"}


def test_without_an_oracle_there_are_figures_and_no_shares() -> None:
    bench, model, _ = bench_of()
    blind = TestStudies(FINDINGS, bench.sample, None, None)
    contender = Contender("fusion/concat", (model,))
    table = share_table(blind, [contender], measure(blind, [contender]))
    assert "information_share" not in table
    assert table["auroc"].between(0.5, 1).all()
    assert explaining_away_table(blind, [contender], ["fusion/concat"], [ALL_PRESENT]).empty


# --- what a training leaves behind -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [12.5, float("nan")])
def test_a_training_is_read_back_and_made_again_under_another_key(tmp_path: Path, seconds: float) -> None:
    calibration, _ = simulate(20, 0)
    test, _ = simulate(10, 1)
    made: list[int] = []

    def make() -> Trained:
        made.append(1)
        return Trained(3, 0.25, seconds, 1234, calibration, test)

    folder = tmp_path / "fusion" / "early"
    first = kept(folder, "recipe", make)
    again = kept(folder, "recipe", make)
    assert len(made) == 1
    assert (again.epochs, again.validation_loss, again.parameters) == (3, 0.25, 1234)
    assert again.seconds == pytest.approx(seconds, nan_ok=True)
    np.testing.assert_array_equal(again.test.fused["text"], first.test.fused["text"])
    assert again.calibration.study_ids.tolist() == calibration.study_ids.tolist()
    kept(folder, "another recipe", make)
    assert len(made) == 2
    (folder / "done.json").unlink()  # killed before the end
    kept(folder, "another recipe", make)
    assert len(made) == 3
