from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from sklearn import metrics as sk

from consilium.calibration import Calibration, patient_bootstrap
from consilium.configuration.recipe import CalibrationRecipe
from consilium.domain.errors import TrainingError
from tests.training.simulated import FINDINGS, KnownOracle, simulate
from training.evaluation.comparisons import find_leaks, leave_one_out_pairs
from training.evaluation.evaluate import calibrate, evaluate, evaluate_folds, require_no_leak
from training.evaluation.metrics import METRICS, Sample
from training.evaluation.predictions import Predictions
from training.evaluation.results import Evaluation, ScoredStudies
from training.evaluation.rows import AS_PRESENT, Row, RowKind, alone, fused
from training.figures.evaluation_files import save_evaluation
from training.figures.evaluation_terminal import terminal_tables

LOWER = CalibrationRecipe(target_sensitivity=0.8)
ALL = fused("image+text+observations")
COIN = Row(RowKind.BASELINE, "coin (fair)")


def possible(subset: str) -> Row:
    return Row(RowKind.ORACLE, subset)


@cache
def calibration_of(seed: int = 100, **model: float) -> Calibration:
    return calibrate(simulate(800, seed, **model)[0], FINDINGS, CalibrationRecipe(), bootstrap=50, seed=1)


@pytest.fixture(scope="module")
def evaluated() -> tuple[Predictions, KnownOracle, Evaluation]:
    predictions, oracle = simulate(900, 7)
    rng = np.random.default_rng(3)
    baseline = np.where(rng.random(predictions.labels.shape) < 0.1, np.nan, rng.random(predictions.labels.shape))
    evaluation = evaluate(
        predictions,
        calibration_of(),
        FINDINGS,
        oracle=oracle,
        baselines={"coin (fair)": baseline},
        bootstrap=300,
        seed=2,
    )
    return predictions, oracle, evaluation


def test_rows_are_what_their_names_say(evaluated) -> None:
    predictions, oracle, evaluation = evaluated
    calibration = calibration_of()
    expected = calibration.probabilities(predictions.fused["image+text"], "image+text")
    assert np.array_equal(evaluation.probabilities[fused("image+text")], expected, equal_nan=True)
    chosen = evaluation.probabilities[AS_PRESENT]
    for row, subset in enumerate(predictions.subsets):
        if subset != "none":
            assert np.array_equal(chosen[row], evaluation.probabilities[fused(subset)][row])
    # The oracle is aligned by study, not by position, and evaluated where the model is.
    place = list(oracle.study_ids).index(predictions.study_ids[5])
    given = oracle.posteriors[predictions.subsets[5]][place]
    assert np.array_equal(evaluation.probabilities[possible(AS_PRESENT.name)][5], given)
    for kind in ("image", "image+text"):
        model, best = evaluation.probabilities[fused(kind)], evaluation.probabilities[possible(kind)]
        assert np.array_equal(np.isnan(model), np.isnan(best))


def test_figures_agree_with_scikit_learn(evaluated) -> None:
    predictions, _, evaluation = evaluated
    lines = evaluation.tables["metrics"]
    assert set(lines["row"]) == set(evaluation.probabilities)
    for row, p in evaluation.probabilities.items():
        aurocs = []
        for f, name in enumerate(FINDINGS.names):
            known = ~np.isnan(predictions.labels[:, f]) & ~np.isnan(p[:, f])
            labels, scores = predictions.labels[known, f], p[known, f]
            aurocs.append(sk.roc_auc_score(labels, scores))
            assert evaluation.value("metrics", "auroc", row=row, finding=name) == pytest.approx(aurocs[-1])
            nll = sk.log_loss(labels, scores)
            assert evaluation.value("metrics", "n", row=row, finding=name) == known.sum()
            assert evaluation.value("metrics", "nll", row=row, finding=name) == pytest.approx(nll)
            if row.kind is not RowKind.BASELINE:
                recall = sk.recall_score(labels, scores >= calibration_of().thresholds[f])
                assert evaluation.value("metrics", "sensitivity", row=row, finding=name) == pytest.approx(recall)
        assert evaluation.value("metrics", "auroc", row=row, finding="macro") == pytest.approx(np.mean(aurocs))
    baselines = lines[lines["row"] == COIN]
    assert baselines["f1"].isna().all()
    assert (lines["auroc_low"] <= lines["auroc"]).all()
    assert (lines["auroc"] <= lines["auroc_high"]).all()


def test_every_modality_adds_and_the_coin_loses(evaluated) -> None:
    predictions, _, evaluation = evaluated
    lines = evaluation.tables["comparisons"].query("finding == 'macro'")
    assert list(zip(lines["row"], lines["against"], strict=True)) == [
        (ALL, fused("image+text")),
        (ALL, fused("image+observations")),
        (ALL, fused("text+observations")),
        (AS_PRESENT, alone("image")),
        (AS_PRESENT, alone("text")),
        (AS_PRESENT, alone("observations")),
        (AS_PRESENT, COIN),
    ]
    assert (lines["auroc_difference_low"] > 0).all()
    assert (lines["nll_difference_high"] < 0).all()
    # The same studies on both sides: those that have all three.
    complete = predictions.subsets == ALL.name
    known = ~np.isnan(predictions.labels[complete, 0])
    p = {row: evaluation.probabilities[row][complete][known, 0] for row in (ALL, fused("image+text"))}
    aurocs = {row: sk.roc_auc_score(predictions.labels[complete][known, 0], values) for row, values in p.items()}
    where = {"row": ALL, "against": fused("image+text"), "finding": "pneumonia"}
    difference = evaluation.value("comparisons", "auroc_difference", **where)
    assert difference == pytest.approx(aurocs[ALL] - aurocs[fused("image+text")])
    assert evaluation.value("comparisons", "n", **where) == known.sum()


def test_pairing_narrows_the_interval(evaluated) -> None:
    evaluation = evaluated[2]
    line = evaluation.tables["comparisons"].query("row == @ALL and finding == 'pneumonia'").iloc[0]
    paired = line["auroc_difference_high"] - line["auroc_difference_low"]
    widths = [
        evaluation.value("metrics", "auroc_high", row=row, finding="pneumonia")
        - evaluation.value("metrics", "auroc_low", row=row, finding="pneumonia")
        for row in (line["row"], line["against"])
    ]
    assert paired < 0.9 * np.hypot(*widths)


def test_shares_of_the_possible(evaluated) -> None:
    predictions, _, evaluation = evaluated
    table = evaluation.tables["oracle_shares"]
    assert set(table["row"]) == {row for row in evaluation.probabilities if row.kind in (RowKind.FUSED, RowKind.ALONE)}
    p, best = (evaluation.probabilities[row] for row in (fused("text"), possible("text")))
    aurocs, informations = [], []
    for f, name in enumerate(FINDINGS.names):
        known = ~np.isnan(predictions.labels[:, f]) & ~np.isnan(p[:, f])
        labels = predictions.labels[known, f]
        pair = [sk.roc_auc_score(labels, values[known, f]) - 0.5 for values in (p, best)]
        blank = sk.log_loss(labels, np.full(known.sum(), labels.mean()))
        gained = [blank - sk.log_loss(labels, values[known, f]) for values in (p, best)]
        share = evaluation.value("oracle_shares", "auroc_share", row=fused("text"), finding=name)
        assert share == pytest.approx(pair[0] / pair[1])
        information = evaluation.value("oracle_shares", "information_share", row=fused("text"), finding=name)
        assert information == pytest.approx(gained[0] / gained[1])
        aurocs.append(pair)
        informations.append(gained)
    for column, parts in (("auroc_share", aurocs), ("information_share", informations)):
        expected = np.divide(*np.mean(parts, axis=0))
        assert evaluation.value("oracle_shares", column, row=fused("text"), finding="macro") == pytest.approx(expected)
    assert (table["auroc_share_high"] < 1.02).all()
    assert (table["auroc_share_low"] < table["auroc_share"]).all()


def test_the_oracle_itself_has_everything_that_is_possible() -> None:
    predictions, oracle = simulate(600, 8, noise=0)
    evaluation = evaluate(predictions, calibration_of(101, noise=0), FINDINGS, oracle=oracle, bootstrap=100, seed=1)
    assert np.allclose(evaluation.tables["oracle_shares"]["auroc_share"], 1, atol=0.005)
    # What is lacking is the calibration's: 400 studies fit it.
    assert np.allclose(evaluation.tables["oracle_shares"]["information_share"], 1, atol=0.15)
    whole = evaluation.value("oracle_shares", "information_share", row=AS_PRESENT, finding="macro")
    assert whole == pytest.approx(1, abs=0.03)
    assert evaluation.leaks == ()
    require_no_leak(evaluation)


def test_a_model_that_sees_the_label_is_a_leak() -> None:
    predictions, oracle = simulate(600, 9, noise=0.1, leak=1.5)
    evaluation = evaluate(
        predictions, calibration_of(noise=0.1, leak=1.5), FINDINGS, oracle=oracle, bootstrap=200, seed=1
    )
    assert any(re.match(r"alone/image, pneumonia: AUROC better", leak) for leak in evaluation.leaks)
    with pytest.raises(TrainingError, match="better than the best possible answer"):
        require_no_leak(evaluation)


def test_honest_models_as_good_as_the_oracle_are_rarely_called_leaks() -> None:
    alarms = 0
    for seed in range(20):
        predictions, oracle = simulate(250, 200 + seed, missing=0)
        # Two looks at the same evidence that neither sees quite: on average as good as each other.
        rng = np.random.default_rng(seed)
        best = {
            k: 1 / (1 + np.exp(-(np.log(v / (1 - v)) + rng.normal(0, 0.5, v.shape))))
            for k, v in oracle.posteriors.items()
        }
        model = {
            k: 1 / (1 + np.exp(-(np.log(v / (1 - v)) + rng.normal(0, 0.5, v.shape))))
            for k, v in oracle.posteriors.items()
        }
        order = [list(oracle.study_ids).index(study) for study in predictions.study_ids]
        sample = Sample(predictions.labels, patient_bootstrap(predictions.patient_ids, 200, seed))
        rows, bounds = ({k: v[order] for k, v in side.items()} for side in (model, best))
        alarms += bool(find_leaks(FINDINGS, sample, rows, bounds))
    assert alarms <= 3  # 1 expected at the most; 4 or more of 20 have a chance below 1 in 50


def test_too_few_positives_convict_nobody() -> None:
    labels = np.tile([[1.0, 1.0]] * 9 + [[0.0, 0.0]] * 30, (1, 1))
    sample = Sample(labels, patient_bootstrap(np.arange(39), 100, 0))
    coin = np.random.default_rng(0).random(labels.shape)
    assert find_leaks(FINDINGS, sample, {"x": labels * 0.9 + 0.05}, {"x": coin}) == []
    labels[9] = 1
    assert len(find_leaks(FINDINGS, sample, {"x": labels * 0.9 + 0.05}, {"x": coin})) == 4


def test_operating_points_promise_and_outcome(evaluated) -> None:
    evaluation, calibration = evaluated[2], calibration_of()
    table = evaluation.tables["operating_points"].set_index("finding")
    for name, point in zip(FINDINGS.names, calibration.operating_points, strict=True):
        line = table.loc[name]
        assert line["threshold"] == point.threshold
        assert line["calibration_sensitivity_low"] == point.sensitivity.low
        assert line["sensitivity"] == evaluation.value("metrics", "sensitivity", row=AS_PRESENT, finding=name)
        # Both shares are of samples: of the test studies, and of those that the point was chosen on.
        assert line["sensitivity_low"] < line["calibration_sensitivity_high"]
        assert line["calibration_sensitivity_low"] < line["sensitivity_high"]
        assert line["held_out"]


def test_reliability_table_holds_every_study_once_in_every_subset(evaluated) -> None:
    predictions, _, evaluation = evaluated
    table = evaluation.tables["reliability"]
    assert set(table["row"]) == {row for row in evaluation.probabilities if row.kind is RowKind.FUSED}
    for row in (AS_PRESENT, fused("text"), ALL):
        for f, name in enumerate(FINDINGS.names):
            bins = table[(table["finding"] == name) & (table["row"] == row)]
            p = evaluation.probabilities[row][:, f]
            known = ~np.isnan(predictions.labels[:, f]) & ~np.isnan(p)
            assert bins["n"].sum() == known.sum()
            labels = predictions.labels[known, f]
            assert np.average(bins["observed"], weights=bins["n"]) == pytest.approx(labels.mean())
            assert np.average(bins["predicted"], weights=bins["n"]) == pytest.approx(p[known].mean())
            assert (bins["observed_low"] <= bins["observed"]).all()
            assert (bins["observed"] <= bins["observed_high"]).all()
            assert (np.abs(bins["observed"] - bins["predicted"]) < 0.25).all()


def test_every_subset_has_its_calibration_error_and_what_chance_would_make_of_it(evaluated) -> None:
    lines = evaluated[2].tables["metrics"]
    assert lines[["ece", "ece_by_chance"]].notna().all(axis=None)
    oracle = lines[lines["row"].map(lambda row: row.kind is RowKind.ORACLE)]
    assert (oracle["ece"] / oracle["ece_by_chance"]).mean() == pytest.approx(1, abs=0.15)
    coin = lines[lines["row"] == COIN]
    assert (coin["ece"] > 3 * coin["ece_by_chance"]).all()


def test_the_same_seed_gives_the_same_tables(evaluated) -> None:
    predictions, oracle, _ = evaluated
    tables = [
        evaluate(predictions, calibration_of(), FINDINGS, oracle=oracle, bootstrap=50, seed=seed).tables
        for seed in (5, 5, 6)
    ]
    for name in tables[0]:
        pd.testing.assert_frame_equal(tables[0][name], tables[1][name])
    assert not tables[0]["metrics"].equals(tables[2]["metrics"])


def test_metrics_are_flat_finite_and_fit_for_mlflow(evaluated) -> None:
    evaluation = evaluated[2]
    metrics = evaluation.metrics
    assert all(re.fullmatch(r"[\w\-. /]+", name) and np.isfinite(value) for name, value in metrics.items())
    assert metrics["fused/as_present/macro/auroc"] == evaluation.value(
        "metrics", "auroc", row=AS_PRESENT, finding="macro"
    )
    assert metrics["difference/fused/image_text/macro/auroc_low"] > 0
    assert 0.5 < metrics["share/fused/as_present/macro/auroc_share"] < 1
    assert "baseline/coin _fair_/macro/f1" not in metrics
    assert metrics["baseline/coin _fair_/macro/auroc"] == evaluation.value(
        "metrics", "auroc", row=COIN, finding="macro"
    )


def test_saved_evaluation(evaluated, tmp_path) -> None:
    predictions, _, evaluation = evaluated
    files = save_evaluation(evaluation, tmp_path / "evaluation")
    assert sorted(file.name for file in files) == sorted(
        [f"{name}.csv" for name in evaluation.tables]
        + ["evaluation.json", "reliability.png", "reliability_by_subset.png", "roc.png"]
    )
    again = pd.read_csv(tmp_path / "evaluation" / "metrics.csv")
    again["row"] = again["row"].map(Row.parse)
    pd.testing.assert_frame_equal(again, evaluation.tables["metrics"])
    text = (tmp_path / "evaluation" / "evaluation.json").read_text()
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert content["studies"] == 900
    assert content["tables"]["metrics"][0]["auroc"] == evaluation.tables["metrics"]["auroc"][0]
    for column in [
        "finding",
        "row",
        "n",
        "positives",
        *(f"{m}{end}" for m in METRICS for end in ("", "_low", "_high")),
    ]:
        assert column in again.columns
    assert not any(study in text for study in predictions.study_ids)


def test_terminal_tables_show_the_figures(evaluated) -> None:
    evaluation = evaluated[2]
    console = Console(width=130, record=True, file=io.StringIO())
    for table in terminal_tables(evaluation):
        console.print(table)
    text = console.export_text()
    line = next(line for line in text.splitlines() if line.startswith(" all that is present"))
    auroc = evaluation.value("metrics", "auroc", row=AS_PRESENT, finding="macro")
    low = evaluation.value("metrics", "auroc_low", row=AS_PRESENT, finding="macro")
    assert f"{auroc:.3f} [{low:.3f}".replace("0.", ".") in line
    for words in ("image + text", "text, own head", "coin (fair)", "Pleural effusion", "[+."):
        assert words in text
    assert "leak" not in text
    leaking = replace(evaluation, leaks=("fused/text, pneumonia: AUROC better than the oracle's by .1, at least .05",))
    console.print(terminal_tables(leaking)[-1])
    assert "by .1, at least .05" in console.export_text()


def printed(evaluation: Evaluation) -> str:
    console = Console(width=130, record=True, file=io.StringIO())
    for table in terminal_tables(evaluation):
        console.print(table)
    return console.export_text()


def test_further_tables_are_saved_and_do_not_flood_the_terminal(evaluated, tmp_path) -> None:
    mixed = pd.DataFrame({"kind": ["image", None], "n": np.array([3, 4]), "auroc": [np.nan, 1]})
    mixed.insert(1, "part", [("a", 1), np.array([1, 2])])
    mixed["in_time"] = [np.bool_(True), pd.NA]
    long = [fused(f"shift-{number}") for number in range(200)]
    metrics = evaluated[2].tables["metrics"]
    macro = metrics[(metrics["row"] == AS_PRESENT) & (metrics["finding"] == "macro")]
    more = {"far/kinds [1]": mixed, "metrics": pd.concat([metrics, *(macro.assign(row=[row]) for row in long)])}
    evaluation = replace(evaluated[2], tables=evaluated[2].tables | more)
    save_evaluation(evaluation, tmp_path)
    assert pd.read_csv(tmp_path / "far_kinds__1_.csv")["n"].tolist() == [3, 4]
    content = json.loads((tmp_path / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert content["tables"]["far/kinds [1]"] == [
        {"kind": "image", "part": ["a", 1], "n": 3, "auroc": None, "in_time": True},
        {"kind": None, "part": [1, 2], "n": 4, "auroc": 1.0, "in_time": None},
    ]
    text = printed(evaluation)
    assert len(text.splitlines()) < 110
    assert "shift-199" not in text
    assert "182 more not shown" in text
    assert "far/kinds [1] (2)" in text
    assert "reliability (" in text


def test_an_evaluation_is_complete_when_it_is_made() -> None:
    predictions, _ = simulate(200, 5)
    seen = []

    def further(scored: ScoredStudies, calibration: Calibration) -> dict[str, pd.DataFrame]:
        seen.append(calibration)
        return {"studies": pd.DataFrame({"n": [len(scored.study_ids)]})}

    calibration = calibration_of()
    evaluation = evaluate(predictions, calibration, FINDINGS, further=further, bootstrap=10, seed=1)
    assert seen == [calibration]
    assert evaluation.value("studies", "n") == 200
    with pytest.raises(TypeError):
        evaluation.tables["studies"] = pd.DataFrame()  # type: ignore[index]
    with pytest.raises(TypeError):
        del evaluation.probabilities[AS_PRESENT]  # type: ignore[attr-defined]


def test_terminal_shows_coverage(evaluated) -> None:
    evaluation = evaluated[2]
    line = evaluation.tables["coverage"].query("finding == 'effusion' and subset == 'as_present'").iloc[1]
    shown = next(row for row in printed(evaluation).splitlines() if "Pleural effusion" in row and "present" in row)
    assert f"{line['coverage']:.3f}".replace("0.", ".") in shown
    assert ("yes" if line["in_band"] else "no") in shown
    assert evaluation.metrics["coverage/effusion/present"] == line["coverage"]
    assert evaluation.metrics["coverage/effusion/present_in_band"] == float(line["in_band"])


def test_out_of_fold_evaluation_lets_no_study_calibrate_itself() -> None:
    whole, oracle = simulate(500, 11)
    # Every fold's model speaks in a scale of its own.
    folds = [whole.select(np.arange(500) // 2 % 5 == k) for k in range(5)]
    evaluation, final = evaluate_folds(folds, FINDINGS, LOWER, oracle=oracle, bootstrap=100, seed=3)
    pooled = Predictions.concatenate(folds)
    assert np.array_equal(evaluation.study_ids, pooled.study_ids)
    assert final == calibrate(pooled, FINDINGS, LOWER, bootstrap=100, seed=3)
    others = calibrate(Predictions.concatenate(folds[1:]), FINDINGS, LOWER, bootstrap=100, seed=3)
    first = slice(0, len(folds[0]))
    expected = others.probabilities(folds[0].fused["text"], "text")
    assert np.array_equal(evaluation.probabilities[fused("text")][first], expected, equal_nan=True)
    assert np.array_equal(evaluation.thresholds[0], others.thresholds)
    assert len(np.unique(evaluation.thresholds[:, 0])) == 5
    called = evaluation.probabilities[AS_PRESENT] >= evaluation.thresholds
    known = ~np.isnan(pooled.labels[:, 0]) & ~np.isnan(evaluation.probabilities[AS_PRESENT][:, 0])
    recall = sk.recall_score(pooled.labels[known, 0], called[known, 0])
    assert evaluation.value("metrics", "sensitivity", row=AS_PRESENT, finding="pneumonia") == pytest.approx(recall)
    assert evaluation.leaks == ()
    # Beside the pooled AUROC stands that of pairs within a fold.
    fold, by_fold = np.repeat(np.arange(5), [len(one) for one in folds]), []
    for rows in [(fold == number) & known for number in range(5)]:
        truth, answers = pooled.labels[rows, 0], evaluation.probabilities[AS_PRESENT][rows, 0]
        by_fold.append((sk.roc_auc_score(truth, answers), (truth == 1).sum() * (truth == 0).sum()))
    expected_within = np.average([one for one, _ in by_fold], weights=[pairs for _, pairs in by_fold])
    within = evaluation.value("metrics", "auroc_within", row=AS_PRESENT, finding="pneumonia")
    assert within == pytest.approx(expected_within)
    assert any(name.endswith("macro/auroc_within") for name in evaluation.metrics)
    assert any("within folds" in str(one.header) for table in terminal_tables(evaluation) for one in table.columns)
    # Sets too are evaluated by the other folds.
    assert evaluation.sets is not None
    here = folds[0].subsets == "text"
    sets = others.prediction_sets(folds[0].fused["text"][here], "text")
    assert np.array_equal(evaluation.sets.sets[first][here], sets)
    # A fold's own labels do not move its probabilities.
    turned = Predictions(**{**{n: getattr(folds[0], n) for n in folds[0].__slots__}, "labels": 1 - folds[0].labels})
    again, _ = evaluate_folds([turned, *folds[1:]], FINDINGS, LOWER, bootstrap=10, seed=3)
    assert np.array_equal(again.probabilities[fused("text")][first], expected, equal_nan=True)


def test_a_head_that_no_other_fold_can_calibrate_says_nothing() -> None:
    whole, _ = simulate(400, 13)
    has_text = whole.present["text"]
    folds = [whole.select(np.flatnonzero(has_text)), whole.select(np.flatnonzero(~has_text))]
    evaluation, final = evaluate_folds(folds, FINDINGS, LOWER, bootstrap=10, seed=3)
    text = evaluation.probabilities[alone("text")]
    assert np.isnan(text).all()
    assert np.isfinite(evaluation.probabilities[alone("image")]).any()
    assert "text" in final.alone


def test_a_single_modality_model_is_evaluated_without_comparisons_of_subsets(tmp_path) -> None:
    whole, _ = simulate(300, 12, missing=0)
    only = Predictions(
        whole.study_ids,
        whole.patient_ids,
        whole.labels,
        {"image": whole.present["image"]},
        {"image": whole.fused["image"]},
        {},
    )
    calibration = calibrate(only, FINDINGS, CalibrationRecipe(), bootstrap=20, seed=1)
    evaluation = evaluate(only, calibration, FINDINGS, bootstrap=20, seed=1)
    assert "comparisons" not in evaluation.tables
    assert "oracle_shares" not in evaluation.tables
    assert evaluation.metrics["fused/image/macro/auroc"] > 0.7
    assert len(terminal_tables(evaluation)) == 3
    assert {"reliability.png", "roc.png"} <= {file.name for file in save_evaluation(evaluation, tmp_path)}
    assert not (tmp_path / "reliability_by_subset.png").exists()


def test_bad_input_is_refused() -> None:
    predictions, oracle = simulate(200, 13)
    calibration = calibration_of()
    short = KnownOracle(oracle.study_ids[:50], {subset: values[:50] for subset, values in oracle.posteriors.items()})
    with pytest.raises(TrainingError, match="the oracle lacks 150 of 200 studies"):
        evaluate(predictions, calibration, FINDINGS, oracle=short, bootstrap=10, seed=1)
    silent = KnownOracle(oracle.study_ids, {"image": oracle.posteriors["image"]})
    with pytest.raises(TrainingError, match="no posterior given text"):
        evaluate(predictions, calibration, FINDINGS, oracle=silent, bootstrap=10, seed=1)
    with pytest.raises(TrainingError, match="baseline hog: must be \\[200, 2\\]"):
        evaluate(predictions, calibration, FINDINGS, baselines={"hog": np.zeros((9, 2))}, bootstrap=10, seed=1)
    with pytest.raises(TrainingError, match="no study"):
        evaluate(predictions.select(np.array([], int)), calibration, FINDINGS, bootstrap=10, seed=1)
    with pytest.raises(TrainingError, match="at least 2 folds"):
        evaluate_folds([predictions], FINDINGS, CalibrationRecipe(), bootstrap=10, seed=1)


def test_leave_one_out_pairs() -> None:
    assert leave_one_out_pairs(["image", "text", "image+text"]) == [("image+text", "image"), ("image+text", "text")]
    assert leave_one_out_pairs(["image"]) == []
