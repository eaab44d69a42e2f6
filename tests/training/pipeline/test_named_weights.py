"""Weights of a licence that a recipe does not allow are refused before anything else is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from consilium.domain.errors import InputError
from consilium.modalities.image.backbones.description import ImageInput
from consilium.modalities.image.backbones.weights_file import WeightsHeader
from consilium.modalities.weight_source import WeightSource
from tests.training.cohorts_made import tiny_training_recipe
from training.pipeline import train as pipeline
from training.pipeline.named_weights import resolve_weights
from training.pretraining import pretrain as pretraining

THEIRS = r"weights_licences: got 'CC-BY-NC-4\.0', .* from theirs\.pt"


@pytest.fixture
def image(tmp_path: Path) -> dict[str, Any]:
    """A section that names a file of weights under a licence for other uses than these."""
    source = WeightSource(architecture="resnet18", source="theirs.pt", sha256="ab" * 32, licence="CC-BY-NC-4.0")
    path = tmp_path / "theirs.safetensors"
    save_file({"made": torch.zeros(1)}, path, WeightsHeader(source, ImageInput()).metadata())
    return {"encoder": "resnet18", "size": 64, "width": 8, "weights": str(path)}


@pytest.mark.parametrize("allowed", [["MIT", "Apache-2.0"], []])
def test_another_licence_is_refused(image: dict[str, Any], allowed: list[str]) -> None:
    with pytest.raises(InputError, match=THEIRS):
        resolve_weights(tiny_training_recipe(image=image, weights_licences=allowed))


@pytest.mark.parametrize("allowed", [["mit", "cc-by-nc-4.0"], None])
def test_a_licence_that_is_allowed_is_not(image: dict[str, Any], allowed: list[str] | None) -> None:
    assert resolve_weights(tiny_training_recipe(image=image, weights_licences=allowed)) == {}


@pytest.mark.parametrize("module", [pipeline, pretraining])
def test_licences_come_before_the_cohort_and_its_files(
    image: dict[str, Any], module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unexpected(*_: Any, **__: Any) -> None:
        raise AssertionError("the cohort was read before the licences")

    for name in ("_load", "read_cohort", "cache_files", "RunState"):
        monkeypatch.setattr(module, name, unexpected, raising=False)
    run = module.train if module is pipeline else module.pretrain
    recipe = tiny_training_recipe(image=image, weights_licences=["MIT"], pretraining={"objectives": {"clip": 1.0}})
    with pytest.raises(InputError, match=THEIRS):
        run(recipe, tmp_path)
