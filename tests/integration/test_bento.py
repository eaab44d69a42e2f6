"""The bento: built without a network from `bentofile.yaml`, then served with a model from a folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from consilium.artifact import save_artifact
from consilium.client import Client
from service.launch import RunningService
from tests.consilium.tiny_artifact import tiny_artifact

ROOT = Path(__file__).resolve().parents[2]
NO_NETWORK = "http://127.0.0.1:9"


def run(*arguments: str, folder: Path) -> str:
    offline = {"UV_OFFLINE": "1", "PIP_NO_INDEX": "1", "HTTPS_PROXY": NO_NETWORK, "HTTP_PROXY": NO_NETWORK}
    beside = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        arguments,
        check=False,
        cwd=folder,
        env=os.environ | offline | {"PATH": beside},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture
def bento(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Tag of a bento in a store of this test's own, built as `make bento` builds it."""
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    project = tmp_path / "project"
    project.mkdir()
    for name in ("bentofile.yaml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)
    dist = project / "dist"
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(dist), ".", folder=ROOT)
    pins = run(sys.executable, "scripts/pinned.py", "serve", folder=ROOT)
    (dist / "requirements.txt").write_text(pins)
    built = run(sys.executable, "-m", "bentoml", "build", "--output", "tag", folder=project)
    return built.strip().removeprefix("__tag__:")


def test_a_bento_is_built_offline_holds_the_wheel_and_answers(bento: str, tmp_path: Path) -> None:
    name, _, version = bento.partition(":")
    folder = tmp_path / "bentoml" / "bentos" / name / version
    inside = {path.name for path in folder.rglob("*") if path.is_file()}
    assert any(file.startswith("consilium-") and file.endswith(".whl") for file in inside)
    assert "LICENSE" in inside
    assert not {file for file in inside if file.endswith((".safetensors", ".db", ".dcm"))}
    model = tmp_path / "model"
    save_artifact(model, tiny_artifact())
    with RunningService(model, {"model_threads": 1}, bento=bento) as service, Client(service.url) as client:
        answer = client.diagnose(notes=[{"kind": "history", "text": "fever cough"}])
    assert answer.modalities == ("text",)
