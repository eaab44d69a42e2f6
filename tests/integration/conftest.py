"""What tests of running services share."""

from __future__ import annotations

from pathlib import Path

import pytest

from consilium.artifact import save_artifact
from tests.consilium.tiny_artifact import tiny_artifact


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, as a folder to serve."""
    folder = tmp_path_factory.mktemp("tiny") / "artifact"
    save_artifact(folder, tiny_artifact())
    return folder
