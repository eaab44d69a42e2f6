from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from consilium.calibration import patient_bootstrap
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from consilium.network.diagnosis_model import FUSED, DiagnosisModel
from consilium.preprocessing.collate import Preprocessing
from consilium.referral.out_of_distribution import OutOfDistributionDetector
from tests.consilium.tiny import THREE
from tests.training.cohorts_made import tiny_training_recipe
from training.cohorts.cohort import Cohort
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.evaluation.out_of_distribution import ORDINARY, Kind, all_kinds, evaluate_out_of_distribution
from training.evaluation.out_of_distribution import detection as detection_module
from training.evaluation.out_of_distribution.detection import separation
from training.evaluation.predict import predict, predict_training

TRAIN, CALIBRATION, TEST = np.arange(30), np.arange(30, 45), np.arange(45, 60)


def _recipe(**sections: object) -> Recipe:
    evaluation = {"bootstrap": 30, "out_of_distribution": 12}
    # Of 15 calibration studies the least typical has a p-value of 1 / 16.
    return tiny_training_recipe(
        cohort={"kind": "phantom"}, evaluation=evaluation, refer={"out_of_distribution": 0.1}, **sections
    )


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return _recipe()


@pytest.fixture(scope="module")
def cached(phantom: Cohort, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> CachedCohort:
    return cache_cohort(phantom, recipe, tmp_path_factory.mktemp("cache"))


def _untrained(cached: CachedCohort, recipe: Recipe) -> tuple[DiagnosisModel, Preprocessing]:
    preprocessing = Preprocessing.fit(recipe, [cached.studies[row] for row in TRAIN])
    torch.manual_seed(0)
    return DiagnosisModel(recipe, cached.cohort.findings, preprocessing).eval(), preprocessing


Subject = tuple[DiagnosisModel, Preprocessing, OutOfDistributionDetector]


@pytest.fixture(scope="module")
def subject(cached: CachedCohort, recipe: Recipe) -> Subject:
    """A model that has learned nothing, and what it takes for ordinary."""
    model, preprocessing = _untrained(cached, recipe)
    _, detector = predict_training(model, preprocessing, cached, TRAIN, recipe)
    assert detector is not None
    scores = predict(model, preprocessing, cached, CALIBRATION, recipe, detector).out_of_distribution
    return model, preprocessing, detector.calibrated(scores)


@pytest.fixture(scope="module")
def table(subject: Subject, cached: CachedCohort, recipe: Recipe) -> pd.DataFrame:
    return evaluate_out_of_distribution(*subject, cached, TEST, recipe)


def test_every_kind_is_scored_by_its_own_part_and_by_the_joint_state(table: pd.DataFrame) -> None:
    altered = table[table["kind"] != ORDINARY]
    for kind in all_kinds():
        lines = altered[altered["kind"] == kind.name]
        assert lines["part"].tolist() == [kind.modality, FUSED]
        assert set(lines["distance"]) == {"far" if kind.far else "near"}
        assert (lines["n"] <= 12).all()
    assert len(altered) == 2 * len(all_kinds())
    assert (altered["auroc_low"] <= altered["auroc"]).all()
    assert (altered["auroc"] <= altered["auroc_high"]).all()
    assert table[table["kind"] == ORDINARY]["part"].tolist() == ["image", "text", "observations", FUSED]


def test_even_a_model_that_has_learned_nothing_notices_what_is_far(table: pd.DataFrame) -> None:
    own = table[table["part"] != FUSED].set_index("kind")
    # Of thirty notes cut off after thirty pieces nobody learns a language.
    for kind in (
        "noise",
        "blank",
        "photograph",
        "inverted",
        "rotated",
        "empty note",
        "impossible values",
        "mixed units",
    ):
        assert own.loc[kind, "auroc"] > 0.9
        assert own.loc[kind, "fpr95"] < 0.3
        assert own.loc[kind, "flagged"] > 0.8
    assert (own.loc[ORDINARY, "flagged"] < 0.5).all()


def test_the_same_studies_are_chosen_and_changed_alike_every_time(
    table: pd.DataFrame, subject: Subject, cached: CachedCohort, recipe: Recipe
) -> None:
    pd.testing.assert_frame_equal(evaluate_out_of_distribution(*subject, cached, TEST, recipe), table)


def test_what_is_left_unread_counts_as_noticed(
    subject: Subject, cached: CachedCohort, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    silenced = Kind("no note", "text", True, lambda case, rng: case.study.with_parts(text=()))
    monkeypatch.setattr(detection_module, "all_kinds", lambda: (silenced,))
    table = evaluate_out_of_distribution(*subject, cached, TEST, recipe)
    line = table[table["kind"] == "no note"].iloc[0]
    assert (line["absent"], line["auroc"], line["fpr95"], line["flagged"]) == (1, 1, 0, 1)


def test_unchanged_studies_are_detected_at_chance(
    subject: Subject, cached: CachedCohort, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = Kind("same", "observations", True, lambda case, rng: case.study)
    monkeypatch.setattr(detection_module, "all_kinds", lambda: (same,))
    table = evaluate_out_of_distribution(*subject, cached, TEST, recipe)
    assert table[table["kind"] == "same"]["auroc"].tolist() == pytest.approx([0.5, 0.5], abs=0.05)


def test_separation_is_that_of_the_library() -> None:
    rng = np.random.default_rng(0)
    ordinary, altered = rng.normal(size=200), np.append(rng.normal(1.5, 1, size=198), [np.inf, np.inf])
    weights = patient_bootstrap(np.tile(np.arange(200), 2), 200, 1)
    found = separation(ordinary, altered, weights)
    truth = np.repeat([0, 1], 200)
    finite = np.concatenate([ordinary, np.minimum(altered, 99)])
    assert found["auroc"] == pytest.approx(roc_auc_score(truth, finite))
    assert found["auroc_low"] < found["auroc"] < found["auroc_high"]
    threshold = np.sort(altered)[9]
    assert (altered >= threshold).mean() >= 0.95 > (altered > threshold).mean() - 0.005
    assert found["fpr95"] == (ordinary >= threshold).mean()


def test_a_model_of_images_alone_is_shown_images_alone(cached: CachedCohort) -> None:
    recipe = _recipe(modalities=["image"])
    model, preprocessing = _untrained(cached, recipe)
    _, detector = predict_training(model, preprocessing, cached, TRAIN, recipe)
    assert detector is not None
    scored = predict(model, preprocessing, cached, CALIBRATION, recipe, detector)
    assert set(scored.out_of_distribution) == {"image", FUSED}
    table = evaluate_out_of_distribution(
        model, preprocessing, detector.calibrated(scored.out_of_distribution), cached, TEST, recipe
    )
    of_images = {kind.name for kind in all_kinds() if kind.modality == "image"}
    assert set(table["kind"]) == of_images | {ORDINARY}


def test_a_recipe_without_a_detector_has_nothing_to_evaluate(
    subject: Subject, cached: CachedCohort, recipe: Recipe
) -> None:
    model, preprocessing, detector = subject
    without = recipe.model_copy(update={"refer": recipe.refer.model_copy(update={"out_of_distribution": None})})
    with pytest.raises(TrainingError, match=r"refer\.out_of_distribution"):
        evaluate_out_of_distribution(model, preprocessing, detector, cached, TEST, without)
    seen, nothing = predict_training(model, preprocessing, cached, TRAIN, without)
    assert nothing is None
    assert seen.out_of_distribution == {}
    assert seen.features[FUSED].shape == (len(seen), recipe.fusion.width)


def test_features_and_scores_stand_with_their_studies(subject: Subject, cached: CachedCohort, recipe: Recipe) -> None:
    model, preprocessing, detector = subject
    found = predict(model, preprocessing, cached, TEST, recipe, detector)
    for modality in THREE:
        absent = ~found.present[modality]
        assert np.array_equal(np.isnan(found.features[modality]).all(axis=1), absent)
        assert np.array_equal(np.isnan(found.out_of_distribution[modality]), absent)
    rows = {study.study_id: study for study in cached.studies}
    for position in (0, 5, 9):
        study = rows[found.study_ids[position]]
        squares = [cached.array("image", image) for image in study.parts["image"]]
        batch = preprocessing.collate([preprocessing.prepare(study, {"image": squares})])
        with torch.no_grad():
            features = model(batch).features
        for part, values in features.items():
            assert values[0].numpy() == pytest.approx(found.features[part][position], abs=1e-4, nan_ok=True)
