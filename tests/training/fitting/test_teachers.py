from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from tests.consilium.tiny import THREE
from tests.training.cohorts_made import Sink, tiny_cohort, tiny_training_recipe
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.evaluation.predict import predict
from training.fitting.fit import fit
from training.fitting.teachers import fit_with_teachers, teacher_recipe, train_teachers

TRAIN, VALIDATION = np.arange(0, 30), np.arange(30, 40)


def recipe_with(**objectives: object) -> Recipe:
    training = {"epochs": 3, "batch_size": 8, "learning_rate": 0.01}
    return tiny_training_recipe(modalities=["text", "observations"], objectives=objectives, training=training)


DISTILLING = recipe_with(distillation=2.0, gradient="mmpareto")


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> CachedCohort:
    root = tmp_path_factory.mktemp("cohort")
    return cache_cohort(tiny_cohort(root / "in"), DISTILLING, root / "cache")


def _confident(cached: CachedCohort) -> dict[str, np.ndarray]:
    """Teachers who say of every study that the first finding is there."""
    logits = np.tile(np.array([3.0, np.nan], np.float32), (len(cached.cohort), 1))
    return {"text": logits, "observations": logits.copy()}


def test_a_teacher_knows_its_modality_alone_and_has_no_teacher():
    alone = teacher_recipe(DISTILLING, "text")
    assert list(alone.modalities) == ["text"]
    assert (alone.objectives.distillation, alone.objectives.gradient) == (0.0, "sum")
    assert alone.training == DISTILLING.training


def test_teachers_speak_of_training_studies_that_have_their_modality(
    cached: CachedCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sinks = {modality: Sink() for modality in THREE}
    teachers = train_teachers(cached, DISTILLING, TRAIN, VALIDATION, tmp_path, sinks.__getitem__)
    assert list(teachers) == ["text", "observations"]
    notes = np.array([len(record.parts["text"]) > 0 for record in cached.cohort.records])
    spoken = np.isfinite(teachers["text"]).all(axis=1)
    assert spoken[TRAIN].tolist() == notes[TRAIN].tolist()
    assert np.isnan(teachers["text"][VALIDATION]).all()
    assert 0 < spoken.sum() < 30
    alone = teacher_recipe(DISTILLING, "text")
    kept = fit(cached, alone, TRAIN, VALIDATION, tmp_path / "text", Sink())
    for row in np.flatnonzero(spoken)[[0, 7, -1]]:
        one = predict(kept.model, kept.preprocessing, cached, np.array([row]), alone)
        assert teachers["text"][row] == pytest.approx(one.fused["text"][0], abs=1e-5)
    assert "train_text" in sinks["text"].seen
    assert "train_text" not in sinks["observations"].seen
    # They are asked once.
    monkeypatch.setattr("training.fitting.teachers.predict", None)
    again = train_teachers(cached, DISTILLING, TRAIN, VALIDATION, tmp_path, sinks.__getitem__)
    assert all(np.array_equal(again[modality], logits, equal_nan=True) for modality, logits in teachers.items())


def test_own_heads_follow_their_teachers(cached: CachedCohort, tmp_path: Path):
    recipe = recipe_with(distillation=5.0, modality=0.0)
    sink = Sink()
    fit(cached, recipe, TRAIN, VALIDATION, tmp_path / "taught", sink, teachers=_confident(cached))
    losses = sink.seen["train_text_teacher"]
    assert losses[max(losses)] < 0.5 * losses[0]


def test_other_teachers_are_another_training(cached: CachedCohort, tmp_path: Path):
    teachers = _confident(cached)
    fit(cached, DISTILLING, TRAIN, VALIDATION, tmp_path, Sink(), teachers=teachers, epochs=1)
    teachers["text"][0, 0] = -3
    with pytest.raises(TrainingError, match="another recipe, cohort or split"):
        fit(cached, DISTILLING, TRAIN, VALIDATION, tmp_path, Sink(), teachers=teachers, epochs=1)


def test_a_missing_or_misshapen_teacher_is_refused(cached: CachedCohort, tmp_path: Path):
    teachers = _confident(cached)
    with pytest.raises(TrainingError, match=r"text teacher's logits.*got none"):
        fit(cached, DISTILLING, TRAIN, VALIDATION, tmp_path, Sink())
    teachers["observations"] = teachers["observations"][:5]
    with pytest.raises(TrainingError, match=r"observations teacher's.*got \[5, 2\]"):
        fit(cached, DISTILLING, TRAIN, VALIDATION, tmp_path, Sink(), teachers=teachers)


def test_a_recipe_that_distils_trains_its_teachers_first(cached: CachedCohort, tmp_path: Path):
    """The first step's divergence is that of the untrained heads from the teachers that were kept."""
    sinks: dict[str, Sink] = {}
    fitted = fit_with_teachers(
        cached, DISTILLING, TRAIN, VALIDATION, tmp_path, lambda part: sinks.setdefault(part, Sink()), epochs=1
    )
    assert list(sinks) == ["teacher_text", "teacher_observations", ""]
    teachers = {m: np.load(tmp_path / "teachers" / m / "logits.npy") for m in DISTILLING.modalities}
    again = Sink()
    by_hand = fit(cached, DISTILLING, TRAIN, VALIDATION, tmp_path / "again", again, epochs=1, teachers=teachers)
    assert fitted.validation_loss == by_hand.validation_loss
    seen = sinks[""].seen
    assert seen["train_text_teacher"] == again.seen["train_text_teacher"]
    assert seen["train_text_teacher"][0] > 0
    terms = {name: seen[f"train_{name}"][0] for name in ("fused", "subset", "text", "observations")}
    divergences = sum(seen[f"train_{m}_teacher"][0] for m in DISTILLING.modalities)
    total = terms["fused"] + terms["subset"] + 0.5 * (terms["text"] + terms["observations"]) + 2.0 * divergences
    assert seen["train_total"][0] == pytest.approx(total, rel=1e-5)


def test_a_recipe_that_does_not_distil_trains_no_teacher(cached: CachedCohort, tmp_path: Path):
    parts = []
    recipe = recipe_with()
    fit_with_teachers(cached, recipe, TRAIN, VALIDATION, tmp_path, lambda part: parts.append(part) or Sink(), epochs=1)
    assert parts == [""]
    assert not (tmp_path / "teachers").exists()
