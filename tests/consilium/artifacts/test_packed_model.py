from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consilium.artifacts.artifact import save_artifact
from consilium.artifacts.manifest import verify
from consilium.artifacts.model_registry import resolve
from consilium.artifacts.packed_model import ARTIFACT, IDENTITY, is_packed, pack
from consilium.domain.diagnosis import ModelIdentity
from consilium.domain.errors import ArtifactError
from tests.consilium.tiny_artifact import tiny_artifact


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact") / "tiny"
    save_artifact(folder, tiny_artifact())
    return folder


@pytest.fixture
def packed(artifact: Path, tmp_path: Path) -> Path:
    pack(artifact, ModelIdentity("consilium-ward", "7", verify(artifact)), tmp_path / "packed")
    return tmp_path / "packed"


def test_a_packed_model_keeps_the_name_and_version_that_it_was_registered_with(packed: Path, artifact: Path) -> None:
    found = resolve(str(packed))
    assert found.identity == ModelIdentity("consilium-ward", "7", verify(artifact))
    assert found.folder == packed / ARTIFACT
    assert is_packed(packed)
    assert not is_packed(artifact)


def test_what_is_packed_is_what_was_named(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=f"got {'0' * 64}, the artifact's is {verify(artifact)}"):
        pack(artifact, ModelIdentity("consilium-ward", "7", "0" * 64), tmp_path / "packed")


def test_an_altered_artifact_is_refused(packed: Path) -> None:
    (packed / ARTIFACT / "calibration.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"calibration\.json: got 2 bytes"):
        resolve(str(packed))


def test_another_artifact_than_the_packed_one_is_refused(packed: Path, tmp_path: Path) -> None:
    (packed / ARTIFACT).rename(tmp_path / "old")
    other = tiny_artifact()
    save_artifact(packed / ARTIFACT, replace(other, details=other.details | {"studies": 31}))
    with pytest.raises(ArtifactError, match=r"identity\.json: manifest_digest: got .*, the artifact's is "):
        resolve(str(packed))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda identity: identity | {"version": 7}, "version: input should be a valid string"),
        (lambda identity: identity | {"name": ""}, "name: string should have at least 1 character"),
        (lambda identity: identity | {"alias": "champion"}, "alias: extra inputs are not permitted"),
        (lambda identity: identity | {"manifest_digest": "f00"}, "manifest_digest: string should match pattern"),
        (lambda identity: [identity], "the file: "),
    ],
)
def test_an_identity_that_is_none_is_refused(packed: Path, change: Callable[[Any], Any], where: str) -> None:
    identity = json.loads((packed / IDENTITY).read_text())
    (packed / IDENTITY).write_text(json.dumps(change(identity)))
    with pytest.raises(ArtifactError, match=rf"identity\.json: {where}"):
        resolve(str(packed))
