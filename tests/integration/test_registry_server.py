"""The registry behind MLflow's own server: what a hospital shares between training and service."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from consilium import registry
from consilium.artifact import save_artifact
from consilium.errors import RegistryError
from consilium.manifest import verify
from consilium.store import experiment_id, open_store
from service.launch import free_port
from tests.consilium.tiny_artifact import tiny_artifact

_READY_WITHIN_S = 90


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of an MLflow server that hands artifacts through."""
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    stores = [
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination",
        str(folder / "art"),
    ]
    command = [sys.executable, "-m", "mlflow", "server", *stores, "--port", str(port), "--workers", "1"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait(process, url, folder / "log")
            yield url
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(f"the server is not ready:\n{log.read_text()}")


def test_a_model_goes_through_a_server(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path / "home"))
    artifact, folder = tiny_artifact(), tmp_path / "tiny"
    digest = save_artifact(folder, artifact)
    run_id = open_store(create=True).create_run(experiment_id("tests")).info.run_id
    version = registry.register(folder, artifact.recipe, run_id, {"git_commit": "abc"})
    registry.promote("consilium-tiny", version, "good")
    resolved = registry.resolve("models:/consilium-tiny@champion")
    assert resolved.identity.manifest_digest == digest == verify(resolved.folder)
    assert resolved.folder.is_relative_to(tmp_path / "home")
    with pytest.raises(RegistryError, match="there is: challenger, champion"):
        registry.resolve("models:/consilium-tiny@previous")
    assert capsys.readouterr().out == "", "nothing but answers on standard output"
