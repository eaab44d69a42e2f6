"""The registry behind MLflow's own server: what a hospital shares between training and service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consilium.artifacts import model_registry as registry
from consilium.artifacts.artifact import save_artifact
from consilium.artifacts.manifest import verify
from consilium.artifacts.mlflow_store import experiment_id, open_store
from consilium.artifacts.version_events import GateRecord, note_gate
from consilium.domain.errors import RegistryError
from tests.consilium.tiny_artifact import tiny_artifact
from tests.integration.mlflow_server import MlflowServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of a running server."""
    running = MlflowServer(tmp_path_factory.mktemp("server"))
    try:
        running.start()
        yield running.url
    finally:
        running.kill()


def test_a_model_goes_through_a_server(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path / "home"))
    artifact, folder = tiny_artifact(), tmp_path / "tiny"
    digest = save_artifact(folder, artifact)
    run_id = open_store(create=True).create_run(experiment_id("tests")).info.run_id
    version = registry.register(folder, artifact.recipe, run_id, {"git_commit": "abc"})
    note_gate("consilium-tiny", version, GateRecord(True, "d" * 64, digest, run_id))
    registry.promote("consilium-tiny", version, "good")
    resolved = registry.resolve("models:/consilium-tiny@champion")
    assert resolved.identity.manifest_digest == digest == verify(resolved.folder)
    assert resolved.folder.is_relative_to(tmp_path / "home")
    with pytest.raises(RegistryError, match="there is: challenger, champion"):
        registry.resolve("models:/consilium-tiny@previous")
    assert capsys.readouterr().out == "", "nothing but answers on standard output"
