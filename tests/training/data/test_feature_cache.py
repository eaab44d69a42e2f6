from __future__ import annotations

import logging
import pickle
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from consilium.modalities.image.encoder import ImageEncoder
from consilium.modalities.part import Part
from consilium.modalities.text.encoder import TextEncoder
from consilium.preprocessing.collate import Preprocessing, collated_features
from consilium.system.installed import load
from tests.consilium.tiny import TEXT, tiny_model
from tests.training.cohorts_made import Sink, tiny_cohort, tiny_training_recipe
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.data.datamodule import StudyDataset, study_loader
from training.data.feature_cache import FeatureCache, feature_caches
from training.evaluation.predict import predict
from training.fitting import fit as fitting
from training.fitting.fit import fit

TRAIN, VALIDATION = np.arange(0, 30), np.arange(30, 40)
FROZEN = {"adaptation": {"name": "frozen"}}
IMAGE = {"encoder": "resnet18", "size": 64, "width": 8, "augmentation": False, **FROZEN}
RECIPE = tiny_training_recipe(image=IMAGE, text={**TEXT, **FROZEN})


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> CachedCohort:
    root = tmp_path_factory.mktemp("cohort")
    return cache_cohort(tiny_cohort(root / "in"), RECIPE, root / "cache")


@pytest.fixture(scope="module")
def preprocessing(cached: CachedCohort) -> Preprocessing:
    return Preprocessing.fit(RECIPE, cached.studies, cached.cohort.variables)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many things the body of each encoder has read since."""
    counts = {"image": 0, "text": 0}
    for name, encoder in (("image", ImageEncoder), ("text", TextEncoder)):

        def dense(self, *tensors, name=name, own=encoder.dense):
            counts[name] += len(tensors[0])
            return own(self, *tensors)

        monkeypatch.setattr(encoder, "dense", dense)
    return counts


def weights(model) -> torch.Tensor:
    return torch.cat([tensor.float().flatten() for tensor in model.state_dict().values()])


def test_a_training_that_reads_features_ends_where_one_that_computes_them_does(
    cached: CachedCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one = fit(cached, RECIPE, TRAIN, VALIDATION, tmp_path / "with", Sink())
    predictions = predict(one.model, one.preprocessing, cached, VALIDATION, RECIPE)
    monkeypatch.setattr(fitting, "feature_caches", lambda *_: {})
    monkeypatch.setattr("training.evaluation.predict.feature_caches", lambda *_: {})
    other = fit(cached, RECIPE, TRAIN, VALIDATION, tmp_path / "without", Sink())
    anew = predict(other.model, other.preprocessing, cached, VALIDATION, RECIPE)
    ours, theirs = (dict(found.model.named_parameters()) for found in (one, other))
    for name, value in ours.items():
        assert torch.allclose(value, theirs[name], atol=1e-4), name
    assert one.validation_loss == pytest.approx(other.validation_loss, abs=1e-5)
    for key, logits in predictions.fused.items():
        assert np.allclose(logits, anew.fused[key], atol=1e-4, equal_nan=True), key


def test_the_average_image_is_that_of_the_training_images(cached: CachedCohort, tmp_path: Path):
    found = fit(cached, RECIPE, TRAIN, VALIDATION, tmp_path, Sink())
    images = [[cached.array("image", image) for image in cached.studies[row].parts.get("image", ())] for row in TRAIN]
    batches = [list(chain.from_iterable(images[start : start + 8])) for start in range(0, 30, 8)]
    expected = np.mean([np.mean(batch, axis=0) for batch in batches], axis=0) / 65535
    assert np.allclose(found.model.encoders["image"].typical[0], expected, atol=1e-5)


def test_features_are_computed_once_for_all_epochs_folds_and_evaluations(
    cached: CachedCohort, tmp_path: Path, computed: dict[str, int]
):
    first = fit(cached, RECIPE, TRAIN, VALIDATION, tmp_path / "first", Sink())
    once = {name: sum(bool(study.parts.get(name)) for study in cached.studies) for name in computed}
    assert computed == once
    predict(first.model, first.preprocessing, cached, np.arange(40), RECIPE)
    fit(cached, RECIPE, np.arange(10, 40), np.arange(10), tmp_path / "other-fold", Sink())
    assert computed["image"] == once["image"]


def test_other_weights_are_another_cache_and_another_note_another_study(
    cached: CachedCohort, preprocessing: Preprocessing, tmp_path: Path
):
    one, other = (tiny_model(RECIPE, preprocessing, seed=seed) for seed in (1, 2))
    first = feature_caches(one, preprocessing, tmp_path)
    assert set(first) == {"image", "text"}
    dataset = StudyDataset(cached, preprocessing, TRAIN, first)
    assert len(first["image"]) == dataset.present["image"].sum()
    again = feature_caches(one, preprocessing, tmp_path)
    assert len(again["image"]) == len(first["image"]), "of the same weights, read from the disk"
    assert [len(cache) for cache in feature_caches(other, preprocessing, tmp_path).values()] == [0, 0]
    key = first["text"].key
    study = next(study for study in cached.studies if study.parts.get("text", ()))
    changed = study.with_parts(text=(replace(study.parts.get("text", ())[0], text="fever"),))
    before, after = (preprocessing.prepare(one.with_parts(image=())) for one in (study, changed))
    assert key(before) == key(preprocessing.prepare(study.with_parts(image=())))
    assert key(before) != key(after)
    without = next(study for study in cached.studies if not study.parts.get("text", ()))
    assert key(preprocessing.prepare(without.with_parts(image=()))) is None


def test_batches_of_features_give_the_answers_of_the_studies(
    cached: CachedCohort, preprocessing: Preprocessing, tmp_path: Path
):
    model = tiny_model(RECIPE, preprocessing)
    rows = np.arange(40)
    plain = StudyDataset(cached, preprocessing, rows)
    kept = StudyDataset(cached, preprocessing, rows, feature_caches(model, preprocessing, tmp_path))
    batches = zip(*(study_loader(one, preprocessing, RECIPE) for one in (plain, kept)), strict=True)
    for expected, batch in batches:
        assert "images" not in batch.inputs["image"], "nothing reads them"
        assert batch.inputs["text"]["input_ids"].equal(expected.inputs["text"]["input_ids"])
        for name in ("image", "text"):
            assert batch.inputs[name]["mask"].equal(expected.inputs[name]["mask"])
        with torch.no_grad():
            assert torch.allclose(model(batch).fused, model(expected).fused, atol=1e-5)


def test_a_loading_process_reads_features(cached: CachedCohort, preprocessing: Preprocessing, tmp_path: Path):
    caches = feature_caches(tiny_model(RECIPE, preprocessing), preprocessing, tmp_path)
    dataset = StudyDataset(cached, preprocessing, TRAIN, caches)
    there = pickle.loads(pickle.dumps(dataset))
    for position in (0, 7):
        ours, theirs = (one[position][0].features for one in (dataset, there))
        assert ours.keys() == theirs.keys()
        for name, features in ours.items():
            assert np.array_equal(features.values, theirs[name].values)
            assert np.array_equal(features.mask, theirs[name].mask)


def test_what_is_trained_has_no_cache(cached: CachedCohort):
    for adaptation in ({"name": "all"}, {"name": "last"}, {"name": "lora"}, {"name": "all", "head_epochs": 1}):
        recipe = tiny_training_recipe(image={**IMAGE, "adaptation": adaptation})
        preprocessing = Preprocessing.fit(recipe, cached.studies, cached.cohort.variables)
        assert feature_caches(tiny_model(recipe, preprocessing), preprocessing) == {}


def test_augmented_images_of_a_frozen_encoder_are_no_silent_cost(
    cached: CachedCohort, tmp_path: Path, computed: dict[str, int], caplog: pytest.LogCaptureFixture
):
    image = {name: value for name, value in IMAGE.items() if name != "augmentation"}
    recipe = tiny_training_recipe(image=image, text={**TEXT, **FROZEN})
    with caplog.at_level(logging.WARNING):
        fit(cached, recipe, TRAIN, VALIDATION, tmp_path / "augmented", Sink())
    (line,) = [record.getMessage() for record in caplog.records if "augmented" in record.getMessage()]
    assert line.startswith("image: the encoder is frozen, and its training inputs are augmented")
    training = sum(len(cached.studies[row].parts.get("image", ())) for row in TRAIN)
    assert computed["image"] > 2 * training
    assert computed["text"] == sum(bool(study.parts.get("text", ())) for study in cached.studies)


def test_a_reduced_map_is_another_cache(cached: CachedCohort, tmp_path: Path):
    found = []
    for connector in ({"name": "linear"}, {"name": "mlp"}, {"name": "grid", "cells": 2}):
        recipe = tiny_training_recipe(image={**IMAGE, "connector": connector}, modalities=["image"])
        preprocessing = Preprocessing.fit(recipe, cached.studies, cached.cohort.variables)
        model = tiny_model(recipe, preprocessing)
        cache = FeatureCache("image", model.encoders["image"], preprocessing, tmp_path)
        dataset = StudyDataset(cached, preprocessing, TRAIN, {"image": cache})
        found.append((cache._store._folder, dataset[0][0].features["image"].values.shape))
    (linear, whole), (mlp, _), (grid, reduced) = found
    assert linear == mlp
    assert grid != linear
    assert whole[:2] == (1, 4)
    assert reduced[:2] == (1, 4)


def test_a_modality_of_a_third_party_is_kept_likewise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "toy")
    section_of, encoder_of, preparation_of = (
        load(f"pulse.{name}")
        for name in ("section:PulseSection", "encoder:PulseEncoder", "preparation:PulsePreparation")
    )
    section = section_of.model_validate(FROZEN | {"connector": {"name": "resampler", "tokens": 3}})
    preparation = preparation_of(section.window, 0.0, 1.0)
    encoder = encoder_of(section, RECIPE.fusion).eval()
    preprocessing = SimpleNamespace(
        recipe=SimpleNamespace(modalities={"pulse": section}), preparations={"pulse": preparation}
    )
    rng = np.random.default_rng(1)
    parts = [Part(arrays={"windows": rng.normal(size=(n, 16)).astype(np.float32)}) for n in (3, 0, 5, 3)]
    studies = [SimpleNamespace(parts={"pulse": part}) for part in parts]
    cache = FeatureCache("pulse", encoder, preprocessing, tmp_path)  # type: ignore[arg-type]
    keys = [cache.key(study) for study in studies]  # type: ignore[arg-type]
    assert keys[1] is None
    cache.fill(keys, lambda position: studies[position])  # type: ignore[arg-type, return-value]
    inputs = preparation.collate(parts)
    kept = collated_features([None if key is None else cache.features(key) for key in keys])
    with torch.no_grad():
        expected, found = encoder(inputs), encoder(kept)
    assert torch.equal(found.mask, expected.mask)
    assert found.mask.sum() == 3 * 3
    assert torch.allclose(found.values, expected.values, atol=1e-6)
