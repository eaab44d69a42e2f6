"""Commands that only look something up import nothing that takes seconds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from mlflow import MlflowClient

from tests.patience import PATIENCE_S

HEAVY = ("torch", "monai", "transformers", "mlflow", "pandas", "scipy", "sklearn", "lightning", "bentoml", "fastapi")
_RUN = """
import json, sys
from consilium.cli import main
code = main(json.loads(sys.argv[1]))
loaded = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
print(json.dumps({"code": code, "loaded": loaded}), file=sys.stderr)
"""
_ID = "7c0b3ad0-4f0e-4a53-9d0c-3a1de6e0f9b1"
_SERVICE = "SERVICE"


class _Nothing(BaseHTTPRequestHandler):
    """A service that knows no job."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Nothing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one version of one model."""
    database = tmp_path_factory.mktemp("mlruns") / "mlflow.db"
    client = MlflowClient(tracking_uri=f"sqlite:///{database}", registry_uri=f"sqlite:///{database}")
    client.create_registered_model("consilium-there")
    client.create_model_version("consilium-there", "/elsewhere", tags={"manifest_digest": "0" * 64})
    return database


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["check", "--help"], 0),
        (["models", "list"], 0),
        (["models", "show", "consilium-there"], 0),
        (["models", "promote", "consilium-there", "1", "--reason", "better"], 1),
        (["models", "promote", "consilium-there", "1", "--reason", "better", "--override", "first"], 0),
        (["models", "rollback", "consilium-there", "--reason", "worse"], 1),
        (["models", "prune"], 0),
        (["keys", "create", "pacs"], 0),
        (["keys", "list"], 0),
        (["audit-log", "new-key"], 0),
        (["audit-log", "recall", "--model", "consilium-there"], 2),
        (["audit-log", "show", _ID], 2),
        (["jobs", "show", _ID, "--url", _SERVICE], 1),
        (["serve", "models:/consilium-none@champion"], 2),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else str(value),
)
def test_a_light_command_imports_nothing_heavy(
    arguments: list[str], code: int, store: Path, service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlruns").mkdir()
    shutil.copy(store, tmp_path / "mlruns")
    for name in ("MLFLOW_TRACKING_URI", "CONSILIUM_HOME"):
        monkeypatch.delenv(name, raising=False)
    given = json.dumps([service if argument == _SERVICE else argument for argument in arguments])
    command = [sys.executable, "-c", _RUN, given, json.dumps(HEAVY)]
    ended = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S)
    assert json.loads(ended.stderr.splitlines()[-1]) == {"code": code, "loaded": []}, ended.stderr
