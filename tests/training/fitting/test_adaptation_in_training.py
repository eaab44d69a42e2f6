from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from consilium.network.diagnosis_model import FUSED, DiagnosisModel
from tests.consilium.tiny import FINDINGS, TEXT
from tests.training.cohorts_made import Sink, tiny_cohort, tiny_training_recipe
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.evaluation.predict import predict
from training.fitting.fit import Fit, fit
from training.fitting.lightning_module import build_model

TRAIN, VALIDATION = np.arange(0, 30), np.arange(30, 40)
IMAGE = {"encoder": "resnet18", "size": 64, "width": 8}


def recipe_with(adaptation: dict, **training: object):
    settings = {"epochs": 2, "batch_size": 8, "learning_rate": 0.01, "ema": 0.4} | training
    image, text = ({**section, "adaptation": adaptation} for section in (IMAGE, TEXT))
    return tiny_training_recipe(image=image, text=text, training=settings)


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> CachedCohort:
    root = tmp_path_factory.mktemp("cohort")
    return cache_cohort(tiny_cohort(root / "in"), recipe_with({"name": "all"}), root / "cache")


def bodies(model: DiagnosisModel) -> dict[str, torch.Tensor]:
    """Weights and batch statistics of the bodies of the image's and the notes' encoder."""
    return {
        name: value.clone()
        for name, value in model.state_dict().items()
        if ".image.backbone." in name or ".text.model." in name
    }


def changed(cached: CachedCohort, recipe, tmp_path: Path) -> tuple[Fit, set[str]]:
    """A training, and what it changed of the bodies."""
    found = fit(cached, recipe, TRAIN, VALIDATION, tmp_path, Sink())
    before = bodies(build_model(recipe, FINDINGS, found.preprocessing))
    after = bodies(found.model)
    return found, {name for name, value in after.items() if name not in before or not torch.equal(value, before[name])}


def test_a_frozen_body_is_not_touched_by_epochs_nor_by_their_moving_average(cached: CachedCohort, tmp_path: Path):
    found, moved = changed(cached, recipe_with({"name": "frozen"}), tmp_path)
    assert moved == set()
    assert found.parameters["text"]["trained"] < found.parameters["text"]["all"]
    assert found.parameters[FUSED]["trained"] == found.parameters[FUSED]["all"]
    assert float(found.model.encoders["image"].batches) > 0


def test_the_last_block_alone_is_changed_batch_statistics_and_all(cached: CachedCohort, tmp_path: Path):
    _, moved = changed(cached, recipe_with({"name": "last", "blocks": 1}), tmp_path)
    of_image = {name.removeprefix("encoders.image.backbone.") for name in moved if ".image." in name}
    assert {name.split(".")[1] for name in of_image} == {"layer4"}
    assert any(name.endswith("running_mean") for name in of_image)


def test_heads_learn_before_the_bodies_do(cached: CachedCohort, tmp_path: Path):
    recipe = recipe_with({"name": "all", "head_epochs": 1}, patience=5)
    _, moved = changed(cached, recipe_with({"name": "all", "head_epochs": 1}, epochs=1), tmp_path / "one")
    assert moved == set()
    sink = Sink()
    found = fit(cached, recipe, TRAIN, None, tmp_path / "two", sink, epochs=2)
    start = bodies(build_model(recipe, FINDINGS, found.preprocessing))
    assert not any(torch.equal(value, start[name]) for name, value in bodies(found.model).items() if "conv" in name)


def test_low_rank_changes_are_in_the_weights_when_the_training_has_ended(cached: CachedCohort, tmp_path: Path):
    recipe = recipe_with({"name": "lora", "rank": 2})
    found, _ = changed(cached, recipe, tmp_path)
    plain = DiagnosisModel(recipe, FINDINGS, found.preprocessing, pretrained=False).eval()
    plain.load_state_dict(found.model.state_dict())
    first, again = (
        predict(model, found.preprocessing, cached, VALIDATION, recipe).fused["image+text"]
        for model in (found.model, plain)
    )
    assert np.array_equal(first, again, equal_nan=True)
    before = bodies(build_model(recipe_with({"name": "all"}), FINDINGS, found.preprocessing))
    after = bodies(found.model)
    assert list(after) == list(before)
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert any(".text.model." in name for name in moved)
    assert any(".image.backbone." in name for name in moved)
    assert all("query.weight" in name or "value.weight" in name for name in moved if ".text." in name)
    assert any("conv" in name for name in moved)
    assert not any("running" in name or "bn" in name for name in moved)
    # A training that has ended is taken up as it is.
    ended = fit(cached, recipe, TRAIN, VALIDATION, tmp_path, Sink())
    assert all(torch.equal(value, after[name]) for name, value in bodies(ended.model).items())
