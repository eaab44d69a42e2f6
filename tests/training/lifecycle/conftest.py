"""Two tiny trained versions of one model, and what is demanded of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consilium.configuration.recipe import Recipe
from training.cohorts.phantom.write import write_phantom
from training.lifecycle.gate_file import Gates
from training.pipeline.train import TrainedModel, train
from training.recipes import find_recipe

LENIENT = Gates.model_validate(
    {
        "bootstrap": 100,
        "champion": {"margin": 0.49, "newest_margin": 0.49},
        "subgroups": {"margin": 0.49},
        "calibration": {"ece_above_chance": 1.0},
        "coverage": {"chance": 1e-6},
        "size": {},
        "licences": {},
    }
)
"""What two tiny models can pass."""


def lifecycle_recipe(name: str, *settings: str) -> Recipe:
    small = ["cohort.kind=manifest", "training.epochs=1", "evaluation.bootstrap=20", "refer.out_of_distribution=null"]
    recipe = find_recipe("phantom-tiny", [f"name={name}", *small, *settings])
    words = {name: section for name, section in recipe.modalities.items() if name != "image"}
    return recipe.model_copy(update={"modalities": words})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("CONSILIUM_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantoms") / "phantom"
    write_phantom(root, 160, seed=3, size=64, workers=1)
    return root


@pytest.fixture(scope="module")
def two_versions(home: Path, phantom: Path) -> tuple[TrainedModel, TrainedModel]:
    """Version 1, and version 2 of two epochs."""
    first = train(lifecycle_recipe("tiny-gated"), phantom, progress=False)
    return first, train(lifecycle_recipe("tiny-gated", "training.epochs=2"), phantom, progress=False)
