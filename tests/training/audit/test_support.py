"""Classes, subgroups and missing inputs."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from consilium.domain.study import Patient, Sex
from consilium.modalities.text.note import Note, NoteKind
from tests.training.audit.made import made_cached, made_cohort
from training.audit.report import REMARK, UNUSABLE
from training.audit.support import auroc_half_width, support


def test_the_half_width_is_that_of_repeated_samples():
    rng = np.random.default_rng(0)
    shift = 1.19  # an AUROC of .8 between two unit Gaussians
    labels = np.repeat([1, 0], [40, 80])
    found = [roc_auc_score(labels, rng.normal(shift * labels)) for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.01)
    assert auroc_half_width(40, 80) == pytest.approx(1.96 * np.std(found), rel=0.15)
    assert np.isnan(auroc_half_width(0, 5))


def test_patients_count_and_not_their_studies():
    labels = np.r_[np.ones(30), np.zeros(30)]
    patients = [f"a{n % 5}" for n in range(30)] + [f"b{n}" for n in range(30)]
    cohort = made_cohort(labels, patients=patients, split=["train"] * 30 + ["test"] * 30)
    tables, concerns = support(made_cached(cohort))
    whole, train, test = tables["support"].to_dict("records")
    assert (whole["present"], whole["patients_present"], whole["patients_absent"]) == (30, 5, 30)
    assert (train["split"], train["absent"]) == ("train", 0)
    assert np.isnan(test["half_width"])
    assert [concern.grade for concern in concerns] == [UNUSABLE]
    assert "5 patient(s) with it and 30 without" in concerns[0].text


def test_a_small_cohort_is_remarked_on_and_a_large_one_is_not():
    small = support(made_cached(made_cohort(np.arange(60) % 2)))[1]
    assert [(concern.kind, concern.grade) for concern in small] == [("support", REMARK)]
    assert support(made_cached(made_cohort(np.arange(600) % 2)))[1] == []


def test_what_is_missing_under_one_label_is_found_and_chance_is_not():
    rng = np.random.default_rng(1)
    labels = (np.arange(300) % 2).astype(float)
    labels[:10] = np.nan
    leaking = (Note(NoteKind.HISTORY, "Cough.", None),)
    notes = [leaking if label == 1 or rng.random() < 0.5 else () for label in labels]
    patients = [Patient(age=50 if rng.random() < 0.7 else None, sex=Sex.FEMALE) for _ in labels]
    tables, concerns = support(made_cached(made_cohort(labels, notes=notes, patient=patients)))
    table = tables["missingness"].set_index("missing")
    assert set(table.index) == {"text", "age"}
    text = table.loc["text"]
    assert text.missing_present == 0
    assert text.missing_absent / text.patients_absent == pytest.approx(0.5, abs=0.1)
    assert table.loc["age", "p"] > 0.05
    [concern] = [one for one in concerns if one.kind == "missingness"]
    assert (concern.grade, concern.finding) == (REMARK, "finding_0")
    assert "text" in concern.text
    assert "age" not in concern.text


def test_holms_correction_keeps_chance_out_of_a_wide_table():
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(40):
        labels = rng.integers(0, 2, (200, 6))
        notes = [(Note(NoteKind.HISTORY, "Cough.", None),) if rng.random() < 0.5 else () for _ in labels]
        concerns = support(made_cached(made_cohort(labels, notes=notes)))[1]
        alarms += any(concern.kind == "missingness" for concern in concerns)
    assert alarms <= 6


def test_subgroups_are_counted():
    patients = [
        Patient(age=age, sex=sex) for age, sex in ((5, Sex.MALE), (17, Sex.MALE), (40, Sex.FEMALE), (None, Sex.FEMALE))
    ]
    cohort = made_cohort([1, 0, 1, np.nan], patient=patients, source=["here", "here", "there", None])
    table = support(made_cached(cohort))[0]["subgroups"].set_index(["kind", "group"])
    assert table.loc[("age", "0 to 17"), ["present", "absent"]].tolist() == [1, 1]
    assert table.loc[("sex", "female"), ["present", "absent"]].tolist() == [1, 0]
    assert set(table.loc["source"].index) == {"here", "there", "unknown"}
