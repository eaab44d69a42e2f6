"""Bentos, built without a network and then served: of `bentofile.yaml` with a model from a folder; of `consilium bento`
with the model inside, and following an alias."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from consilium.api.client import Client
from consilium.artifacts.artifact import save_artifact
from consilium.artifacts.manifest import verify
from consilium.cli import main
from service.app.launch import RunningService
from tests.consilium.tiny_artifact import tiny_artifact
from tests.patience import PATIENCE_S
from tests.service import registered
from tests.test_project import shipped_files

ROOT = Path(__file__).resolve().parents[2]
NO_NETWORK = "http://127.0.0.1:9"
OFFLINE = {"UV_OFFLINE": "1", "PIP_NO_INDEX": "1", "HTTPS_PROXY": NO_NETWORK, "HTTP_PROXY": NO_NETWORK}
NOTES = [{"kind": "history", "text": "fever cough"}]
SETTINGS = {"model_threads": 1, "device": "cpu"}
SECRET = "s3cret-7f31c0"


def run(*arguments: str, folder: Path) -> str:
    beside = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        arguments,
        check=False,
        cwd=folder,
        env=os.environ | OFFLINE | {"PATH": beside},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
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
        answer = client.diagnose(notes=NOTES)
    assert answer.modalities == ("text",)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An alias in a registry of this test's own, whose second version is the champion; secrets lie all around."""
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / SECRET / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"https://user:{SECRET}@packages.hospital.example")
    monkeypatch.setenv("CONSILIUM_AUDIT_LOG_URL", f"sqlite:///{tmp_path / 'audit-log.db'}?token={SECRET}")
    here = tmp_path / "here"
    (here / "var").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    for place in (here / ".env", here / "var" / "audit-log.keys", tmp_path / "home" / "keys.json"):
        place.write_text(SECRET)
    monkeypatch.chdir(here)
    versions = [registered.register(registered.save_tiny(tmp_path / f"weights{n}", n), "packed") for n in range(2)]
    return registered.point("packed", versions[1])


def built(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["bento", *arguments, "--json"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_bento_with_its_model_inside_needs_no_registry_and_answers_by_version(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = built(capsys, registry)
    identity = {"name": "consilium-packed", "version": "2", "manifest_digest": verify(tmp_path / "weights1")}
    assert (report["source"], report["model"]) == (registry, identity)

    folder = Path(report["folder"])
    files = contents_of(folder)
    code = {name for name in shipped_files() if not name.startswith(("training/", "hospital/"))}
    model = {f"model/artifact/{name}" for name in contents_of(tmp_path / "weights1")} | {"model/identity.json"}
    assert {name.removeprefix("src/") for name in files if name.startswith("src/")} == (
        code | model | {"LICENSE", "bentofile.yaml"}
    )
    assert [name for name, content in files.items() if SECRET.encode() in content] == []
    labels = yaml.safe_load(files["bento.yaml"])["labels"]
    assert (labels["model"], labels["version"], labels["manifest_digest"]) == tuple(identity.values())
    dockerfile = Path(report["dockerfile"]).read_text()
    assert "ARG CONSILIUM_MODEL=/home/bentoml/bento/src/model\n" in dockerfile
    (script,) = (folder / "env" / "docker").glob("script__*")
    assert f"RUN chmod +x ./env/docker/{script.name} && ./env/docker/{script.name}\n" in dockerfile
    assert "/var/lib/consilium" in script.read_text()
    assert "torch==" in (folder / "env" / "python" / "requirements.txt").read_text()

    monkeypatch.setenv("MLFLOW_TRACKING_URI", NO_NETWORK)
    monkeypatch.delenv("CONSILIUM_AUDIT_LOG_URL")
    with RunningService(None, SETTINGS, bento=report["tag"]) as service, Client(service.url) as client:
        answer = client.diagnose(notes=NOTES)
        assert client.model().deployment.follows is None
    assert answer.model.to_json() == identity


def test_a_bento_that_follows_an_alias_holds_no_model_and_answers_as_the_registry_says(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = built(capsys, registry, "--follow")
    assert (report["source"], report["model"]) == (registry, None)

    files = contents_of(Path(report["folder"]))
    assert not [name for name in files if name.startswith("src/model/") or name.endswith(".safetensors")]
    assert [name for name, content in files.items() if SECRET.encode() in content] == []
    assert f"ARG CONSILIUM_MODEL={registry}\n" in Path(report["dockerfile"]).read_text()

    monkeypatch.delenv("CONSILIUM_AUDIT_LOG_URL")
    with RunningService(None, SETTINGS, bento=report["tag"]) as service, Client(service.url) as client:
        assert client.model().deployment.follows == registry
        assert client.diagnose(notes=NOTES).model.version == "2"
