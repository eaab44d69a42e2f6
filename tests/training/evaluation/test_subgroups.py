"""Figures by subgroup."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from consilium.domain.findings import Finding, FindingSet
from consilium.domain.study import Patient, Sex, Study
from consilium.modalities.image.image_record import ViewPosition
from tests.consilium.tiny import tiny_study
from training.cohorts.cohort import StudyRecord
from training.evaluation.results import Evaluation
from training.evaluation.rows import AS_PRESENT
from training.evaluation.subgroups import study_groups, subgroup_tables

N = 400


@pytest.fixture(scope="module")
def evaluated() -> tuple[Evaluation, np.ndarray]:
    """A model that is blind to one finding in women; a third group is too small to evaluate."""
    rng = np.random.default_rng(0)
    sex = np.where(np.arange(N) < 5, "O", np.where(rng.random(N) < 0.5, "F", "M"))
    labels = (rng.random((N, 1)) < 0.4).astype(float)
    labels[7] = np.nan
    signal = np.where((sex == "F")[:, None], 0.0, 2.0) * np.nan_to_num(labels)
    probabilities = 1 / (1 + np.exp(-(signal + rng.normal(0, 1, (N, 1)) - 1)))
    evaluation = Evaluation(
        findings=FindingSet((Finding("nodule", "Nodule"),)),
        study_ids=np.arange(N).astype(str),
        patient_ids=np.arange(N).astype(str),
        labels=labels,
        probabilities={AS_PRESENT: probabilities},
        thresholds=np.full((N, 1), 0.5),
        tables={},
    )
    return evaluation, sex


def test_figures_are_those_of_each_group_alone(evaluated):
    evaluation, sex = evaluated
    table = subgroup_tables(evaluation, {"sex": sex}, bootstrap=100, seed=1)["subgroups"].set_index("group")
    known = ~np.isnan(evaluation.labels[:, 0])
    for group in ("F", "M"):
        rows = known & (sex == group)
        truth, probability = evaluation.labels[rows, 0], evaluation.probabilities[AS_PRESENT][rows, 0]
        assert table.loc[group, "n"] == rows.sum()
        assert table.loc[group, "auroc"] == pytest.approx(roc_auc_score(truth, probability))
        assert table.loc[group, "sensitivity"] == pytest.approx(recall_score(truth, probability >= 0.5))
        assert table.loc[group, "auroc_low"] < table.loc[group, "auroc"] < table.loc[group, "auroc_high"]
    assert table.loc["O", "n"] == 5
    assert np.isnan(table.loc["O", "auroc"])


def test_the_widest_gap_names_whom_it_is_to_the_disadvantage_of(evaluated):
    evaluation, sex = evaluated
    tables = subgroup_tables(evaluation, {"sex": sex}, bootstrap=50, seed=1)
    gaps = tables["gaps"].set_index("metric")
    by_group = tables["subgroups"].set_index("group")["auroc"]
    assert (gaps.loc["auroc", "worst"], gaps.loc["auroc", "best"]) == ("F", "M")
    assert gaps.loc["auroc", "gap"] == pytest.approx(by_group["M"] - by_group["F"])
    assert gaps.loc["sensitivity", "gap"] > 0.2


def test_a_kind_without_two_groups_says_nothing(evaluated):
    evaluation, _ = evaluated
    tables = subgroup_tables(evaluation, {"source": np.full(N, "one")}, bootstrap=20, seed=1)
    assert tables["subgroups"].empty
    assert tables["gaps"].empty


def test_groups_are_read_from_records():
    ages = [None, 3, 17.5, 18, 64, 65, 80, 101]
    records = [
        StudyRecord(str(n), str(n), np.zeros(1, np.float32), patient=Patient(age=age, sex=Sex.FEMALE), source="here")
        for n, age in enumerate(ages)
    ]
    views = [ViewPosition.PA, ViewPosition.LATERAL, ViewPosition.AP_SUPINE, *[ViewPosition.UNKNOWN] * 4, None]
    studies = [_seen_from(tiny_study(n), view) for n, view in enumerate(views)]
    groups = study_groups(records, studies)
    expected = ["unknown", "0 to 17", "0 to 17", "18 to 39", "40 to 64", "65 to 79", "80 and older", "80 and older"]
    assert groups["age"].tolist() == expected
    assert set(groups["sex"]) == {"female"}
    assert set(groups["source"]) == {"here"}
    assert groups["view"].tolist() == ["PA", "lateral", "AP supine", *["unknown"] * 4, "no image"]


def _seen_from(study: Study, view: ViewPosition | None) -> Study:
    images = () if view is None else tuple(replace(image, view=view) for image in study.parts["image"])
    return study.with_parts(image=images)
