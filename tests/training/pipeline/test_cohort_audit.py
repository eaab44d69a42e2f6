from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from consilium.domain.findings import Finding, FindingSet
from consilium.modalities.text.note import Note, NoteKind
from tests.training.audit.made import made_cached, made_cohort
from training.audit.audit import audit_cohort
from training.audit.report import SUSPECT
from training.cohorts.phantom.write import write_phantom
from training.evaluation.results import Evaluation
from training.evaluation.rows import AS_PRESENT
from training.pipeline import protocols
from training.pipeline.cohort_audit import audit_after_fit, audit_before_fit
from training.pipeline.context import Stage
from training.pipeline.protocols import Plan
from training.pipeline.train import _planned, train
from training.recipes import find_recipe

N = 240
WORDS = ("tired", "cough", "pain", "fever", "chills", "walk", "stairs", "since", "week", "evening", "night", "sleeps")
AUDITED = Recipe.from_mapping(
    {"name": "audited", "modalities": {"image": {}, "text": {}, "observations": {}}, "evaluation": {"audit": True}}
)


def stage_of(labels: np.ndarray, leak: float = 0.0) -> Stage:
    """Notes of chance words; a share `leak` of the studies with the finding have a word that gives it away."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 12)) for _ in labels]
    texts = [f"{text} confirmed" if y and rng.random() < leak else text for text, y in zip(texts, labels, strict=True)]
    cohort = made_cohort(labels, notes=[(Note(NoteKind.HISTORY, text),) for text in texts])
    return cast(Stage, SimpleNamespace(recipe=AUDITED, cached=made_cached(cohort)))


def reached(auroc: float) -> Evaluation:
    line: dict[str, Any] = {"row": AS_PRESENT, "finding": "finding_0", "auroc": auroc}
    empty = np.zeros((0, 1))
    return Evaluation(
        findings=FindingSet((Finding("finding_0", "Finding"),)),
        study_ids=np.array([]),
        patient_ids=np.array([]),
        labels=empty,
        probabilities={},
        thresholds=empty,
        tables={"metrics": pd.DataFrame([line])},
    )


def test_a_word_that_gives_the_label_away_is_warned_of_before_the_fit_and_once(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING, "training")
    stage = stage_of(np.arange(N) % 2, leak=1.0)
    early = audit_before_fit(stage)
    assert early is not None
    warned = caplog.text
    assert "confirmed" in warned
    report = audit_after_fit(stage, early, reached(0.7))
    assert report is not None
    assert report.verdict == SUSPECT
    assert caplog.text.count("confirmed") == warned.count("confirmed")
    whole = audit_cohort(stage.cached, AUDITED.scope, model_auroc={"finding_0": 0.7}, seed=AUDITED.seed)
    assert report.to_json() == whole.to_json()


def test_an_unusable_cohort_is_refused_with_its_reasons():
    with pytest.raises(TrainingError, match=r"(?s)unusable, so nothing was trained.*Finding 0 cannot be evaluated"):
        audit_before_fit(stage_of(np.arange(N) < 2))


def divided_stage(protocol: str) -> Stage:
    """Patient 0 stands in two of the splits that the cohort fixes."""
    patients = [*range(N - 1), 0]
    cohort = made_cohort(np.arange(N) % 2, patients=patients, split=["train"] * (N // 2) + ["test"] * (N // 2))
    evaluation = AUDITED.evaluation.model_copy(update={"protocol": protocol})
    recipe = AUDITED.model_copy(update={"evaluation": evaluation})
    return cast(Stage, SimpleNamespace(recipe=recipe, cached=made_cached(cohort), cohort=cohort))


def test_the_audit_looks_at_the_folds_of_the_training_and_not_at_splits_that_it_does_not_use():
    with pytest.raises(TrainingError, match="1 patient stands in more than one split"):
        _planned(divided_stage("split"))
    plan, early = _planned(divided_stage("cross_validation"))
    assert early is not None
    assert [concern.text for concern in early.report.concerns if concern.kind == "split"] == []
    assert set(early.report.tables["support"]["split"]) == {"all", *plan.parts}
    assert list(plan.parts) == [f"fold {number}" for number in range(1, 6)]


def test_a_patient_of_two_sources_stands_on_one_side():
    plan = Plan({"source a": np.array([0, 1]), "source b": np.array([2, 3])}, {})
    assert plan.names(5).tolist() == ["source a", "source a", "source b", "source b", "not evaluated"]
    assert plan.sides(np.array(["p", "q", "q", "r", "s"])) == [
        "source a",
        "source a and source b",
        "source a and source b",
        "source b",
        "not evaluated",
    ]


def test_without_an_audit_nothing_is_looked_at():
    stage = stage_of(np.arange(N) < 2)
    unaudited = AUDITED.evaluation.model_copy(update={"audit": False})
    recipe = AUDITED.model_copy(update={"evaluation": unaudited})
    stage = cast(Stage, SimpleNamespace(recipe=recipe, cached=stage.cached))
    early = audit_before_fit(stage)
    assert early is None
    assert audit_after_fit(stage, early, reached(0.7)) is None


def test_a_training_on_an_unusable_cohort_ends_before_any_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path / "home"))
    root = tmp_path / "phantom"
    write_phantom(root, 40, seed=3, size=64, workers=1)
    studies = pd.read_csv(root / "studies.csv")
    labels = [name for name in studies.columns if name.startswith("label")]
    studies[labels] = 0
    studies.loc[0, labels] = 1
    studies.to_csv(root / "studies.csv", index=False)

    def trained(*_: object, **__: object) -> None:
        raise AssertionError("a fit was started")

    monkeypatch.setattr(protocols, "fit_model", trained)
    recipe = find_recipe("phantom-tiny", ["name=unusable", "evaluation.audit=true"])
    with pytest.raises(TrainingError, match="unusable"):
        train(recipe, root, progress=False)
