"""Versions of a tiny model in this worker's registry, good and bad ones, and the alias that moves among them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from mlflow import MlflowClient
from safetensors.torch import load_file, save_file
from torch import Tensor

from consilium.artifacts import manifest
from consilium.artifacts import model_registry as registry
from consilium.artifacts.artifact import save_artifact
from consilium.artifacts.manifest import MANIFEST, MONITORING
from consilium.artifacts.mlflow_store import experiment_id, open_store, tracking_uri
from tests.consilium.tiny import tiny_recipe
from tests.consilium.tiny_artifact import tiny_artifact

ALIAS = "champion"


def save_tiny(folder: Path, seed: int = 0, **sections: object) -> Path:
    save_artifact(folder, tiny_artifact(seed, **sections))
    return folder


def rewritten(original: Path, folder: Path, file: str, change: Callable[[str], str]) -> Path:
    """A copy of an artifact of which one file says something else, with the manifest that fits it."""
    shutil.copytree(original, folder)
    text = (folder / file).read_text()
    assert change(text) != text
    (folder / file).write_text(change(text))
    return _sealed(folder)


def unmonitored(original: Path, folder: Path) -> Path:
    """A copy of an artifact that holds nothing to compare studies in service with, which names the findings, too."""
    shutil.copytree(original, folder, ignore=shutil.ignore_patterns(MONITORING))
    return _sealed(folder)


def overflowing(original: Path, folder: Path) -> Path:
    """A copy of an artifact whose weights are finite, and whose answers are not."""
    return _reweighed(original, folder, lambda _, tensor: tensor * 1e30)


def moved(original: Path, folder: Path) -> Path:
    """A copy of an artifact in which nothing is wrong but one bias, so that its answers are not the trained ones."""
    return _reweighed(original, folder, lambda name, tensor: tensor + 0.5 if name == "head.bias" else tensor)


def _reweighed(original: Path, folder: Path, change: Callable[[str, Tensor], Tensor]) -> Path:
    shutil.copytree(original, folder)
    path = folder / "model.safetensors"
    weights = {
        name: change(name, tensor) if tensor.is_floating_point() else tensor for name, tensor in load_file(path).items()
    }
    save_file(weights, path)
    return _sealed(folder)


def _sealed(folder: Path) -> Path:
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).write_bytes(manifest.describe(folder))
    return folder


def register(folder: Path, name: str) -> str:
    """The version under which `folder` is now registered as ``consilium-<name>``."""
    run_id = open_store(create=True).create_run(experiment_id("tests")).info.run_id
    recipe = tiny_recipe(name=name)
    return registry.register(folder, recipe, run_id, {})


def stored(name: str, version: str) -> Path:
    """The artifact inside the store, where a tamperer would find it."""
    client = MlflowClient(tracking_uri=tracking_uri())
    (folder,) = (Path(client.get_model_version_download_uri(f"consilium-{name}", version)) / "artifacts").iterdir()
    return folder


def of_another_format(name: str, version: str) -> None:
    """Make a registered version one that a later version of this project wrote."""
    path = stored(name, version) / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": manifest.FORMAT + 1}))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    open_store().set_model_version_tag(f"consilium-{name}", version, registry.DIGEST_TAG, digest)


def point(name: str, version: str, alias: str = ALIAS) -> str:
    """Let the alias stand for `version`, and give the URI to follow."""
    open_store().set_registered_model_alias(f"consilium-{name}", alias, version)
    return f"models:/consilium-{name}@{alias}"
