"""Which fusion `auto` takes, and what it says of it."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import RecipeError
from tests.training.cohorts_made import Sink, tiny_cohort, tiny_training_recipe
from training.data.cached_cohort import cache_cohort
from training.evaluation.predictions import Predictions
from training.fitting import fusion_choice
from training.fitting.fusion_choice import Candidate, FusionChoice, choose_fusion, fit_model

STUDIES = 200
FUSION = {"name": "auto", "candidates": ["stacked", "late"], "folds": 2, "width": 16, "depth": 1, "heads": 2}
RECIPE = tiny_training_recipe(modalities=["observations"], fusion=FUSION, training={"epochs": 1, "batch_size": 8})


def predictions(strength: float, seed: int) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = np.arange(STUDIES)[:, None] % 2.0
    logits = strength * (labels - 0.5) + rng.normal(size=labels.shape)
    names = np.array([f"S{n}" for n in range(STUDIES)])
    there = np.ones(STUDIES, bool)
    return Predictions(names, names, labels, {"image": there}, {"image": logits}, {"image": logits})


def test_the_first_candidate_stays_unless_another_is_clearly_better():
    alike = choose_fusion({"stacked": predictions(1, 0), "concat": predictions(1, 1)}, RECIPE)
    assert alike.name == "stacked"
    better = choose_fusion({"stacked": predictions(0.5, 0), "concat": predictions(3, 1)}, RECIPE)
    assert better.name == "concat"


def test_figures_are_those_of_scikit_learn():
    found = {"stacked": predictions(1, 0), "concat": predictions(2, 1)}
    choice = choose_fusion(found, RECIPE)
    for name, one in found.items():
        assert choice.candidates[name].auroc == pytest.approx(roc_auc_score(one.labels, one.fused["image"]))
    gain = choice.candidates["concat"]
    assert gain.gain == pytest.approx(gain.auroc - choice.candidates["stacked"].auroc)
    assert 0 < gain.standard_error < 0.1


def test_the_sentence_names_every_candidate_with_its_figures():
    choice = FusionChoice("stacked", {"stacked": Candidate(0.842), "concat": Candidate(0.701, -0.141, 0.042)})
    assert choice.sentence == "stacked, of stacked 0.842 and concat 0.701 (-0.141, standard error 0.042)"
    assert choice.to_json()["candidates"]["concat"]["gain"] == -0.141


def test_auto_fits_every_candidate_on_the_training_studies_alone_and_then_the_chosen_one(tmp_path: Path, monkeypatch):
    cached = cache_cohort(tiny_cohort(tmp_path / "in", 80), RECIPE, tmp_path / "cache")
    train = np.arange(60)
    seen = []
    original = fusion_choice._fit

    def watched(cached, recipe, rows, *arguments, **options):
        seen.append((recipe.fusion.name, frozenset(rows.tolist())))
        return original(cached, recipe, rows, *arguments, **options)

    monkeypatch.setattr(fusion_choice, "_fit", watched)
    fitted = fit_model(cached, RECIPE, train, None, tmp_path / "fit", lambda name: Sink())
    assert [name for name, _ in seen] == ["stacked", "stacked", "late", "late", fitted.recipe.fusion.name]
    folds = [rows for _, rows in seen[:4]]
    assert all(rows < set(range(60)) for rows in folds)
    assert folds[:2] == folds[2:]
    assert folds[0] | folds[1] == set(range(60))
    patients = [{cached.cohort.records[row].patient_id for row in rows} for rows in folds[:2]]
    assert not patients[0] & patients[1]
    assert seen[-1][1] == set(range(60))
    assert fitted.choice is not None
    assert fitted.recipe.fusion.name == fitted.choice.name
    assert fitted.fit.model.fusion.recipe.name == fitted.choice.name


def test_candidates_are_different_fusions():
    data = RECIPE.model_dump(mode="json")
    data["fusion"]["candidates"] = ["late", "late"]
    with pytest.raises(RecipeError, match="each fusion once"):
        Recipe.from_mapping(data)
    data["fusion"]["candidates"] = ["late", "auto"]
    with pytest.raises(RecipeError, match="candidates"):
        Recipe.from_mapping(data)


def test_repeats_are_of_a_cross_validation():
    data = RECIPE.model_dump(mode="json")
    data["evaluation"]["repeats"] = 3
    with pytest.raises(RecipeError, match="repeats must be 1 under the protocol split"):
        Recipe.from_mapping(data)
