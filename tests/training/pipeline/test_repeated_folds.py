"""Folds drawn several times: one table of them all, right to the last digit."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from consilium.domain.findings import Finding, FindingSet
from training.evaluation.comparisons import MACRO
from training.evaluation.rows import AS_PRESENT, Row, RowKind
from training.pipeline.repeated_folds import average, repeats_table

HOG = Row(RowKind.BASELINE, "image_hog")
STUDIES = 60


@pytest.fixture
def evaluation():
    rng = np.random.default_rng(0)
    labels = (rng.random((STUDIES, 1)) < 0.5).astype(float)
    patients = np.array([f"P{n // 2}" for n in range(STUDIES)])
    return SimpleNamespace(labels=labels, patient_ids=patients, findings=FindingSet((Finding("severe", "Severe"),)))


@pytest.fixture
def draws(evaluation):
    rng = np.random.default_rng(1)

    def one(strength):
        return 1 / (1 + np.exp(-(strength * (evaluation.labels - 0.5) + rng.normal(size=(STUDIES, 1)))))

    return [{AS_PRESENT: one(3), HOG: one(1)} for _ in range(3)]


def test_mean_extremes_and_difference_are_those_of_the_single_draws(evaluation, draws):
    table = repeats_table(evaluation, draws, bootstrap=50, seed=0)
    ours, hog = ([roc_auc_score(evaluation.labels, drawn[row]) for drawn in draws] for row in (AS_PRESENT, HOG))
    line = table[(table["row"] == HOG) & (table["finding"] == "severe")].iloc[0]
    assert line["auroc"] == pytest.approx(np.mean(hog))
    assert (line["lowest"], line["highest"]) == pytest.approx((min(hog), max(hog)))
    assert line["auroc_difference"] == pytest.approx(np.mean(ours) - np.mean(hog))
    assert line["auroc_low"] < line["auroc"] < line["auroc_high"]
    assert (line["draws"], line["n"]) == (3, STUDIES)
    assert set(table["finding"]) == {"severe", MACRO}


def test_averaged_answers_have_the_mean_log_odds(evaluation, draws):
    found = average(draws, AS_PRESENT)
    logits = np.mean([np.log(d[AS_PRESENT] / (1 - d[AS_PRESENT])) for d in draws], axis=0)
    assert np.log(found / (1 - found)) == pytest.approx(logits)
    table = repeats_table(evaluation, draws, bootstrap=20, seed=0)
    line = table[(table["row"] == AS_PRESENT) & (table["finding"] == "severe")].iloc[0]
    assert line["averaged_auroc"] == pytest.approx(roc_auc_score(evaluation.labels, logits))


def test_a_study_that_one_draw_does_not_answer_is_averaged_over_the_others(draws):
    draws[0][AS_PRESENT][3] = np.nan
    for drawn in draws:
        drawn[AS_PRESENT][5] = np.nan
    found = average(draws, AS_PRESENT)
    assert np.isfinite(found[3]).all()
    assert np.isnan(found[5]).all()


def test_difference_is_taken_where_both_answer(evaluation, draws):
    for drawn in draws:
        drawn[HOG][:20] = np.nan
    table = repeats_table(evaluation, draws, bootstrap=20, seed=0)
    line = table[(table["row"] == HOG) & (table["finding"] == "severe")].iloc[0]
    truth = evaluation.labels[20:]
    expected = [roc_auc_score(truth, d[AS_PRESENT][20:]) - roc_auc_score(truth, d[HOG][20:]) for d in draws]
    assert line["auroc_difference"] == pytest.approx(np.mean(expected))
    assert line["n"] == STUDIES - 20
