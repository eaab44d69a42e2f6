"""In a container that runs under any user id (as OpenShift's do): no entry, no HOME, and code that is only read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.app.launch import free_port
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]
ANY_ID = 1_234_567
pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None, reason="only root can become somebody else, by setpriv"
)
_COMMANDS = """
import getpass, json, os, sys
assert "HOME" not in os.environ
from consilium.cli import main
codes = {" ".join(command[:2]): main(command) for command in json.loads(sys.argv[1])}
import training.pipeline.compare_models, training.experiments.fusion_comparison.experiment
import training.pipeline.evaluate_registered, training.pipeline.train, training.experiments.shifts
import consilium.inference.pyfunc_model, service.packaging.build
print(json.dumps({"codes": codes, "user": getpass.getuser(), "uid": os.getuid()}), file=sys.stderr)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """The one folder that the account may write; pytest's own lie where only root may look."""
    with tempfile.TemporaryDirectory(prefix="any-") as folder:
        os.chown(folder, ANY_ID, 0)
        command, given = _as_anybody(
            Path(folder), "-c", "import os, sys; sys.exit(not os.access(sys.argv[1], os.W_OK))"
        )
        if subprocess.run([*command, folder], check=False, env=given).returncode:
            pytest.skip(f"another account cannot look into {tempfile.gettempdir()}")
        yield Path(folder)


def _as_anybody(home: Path, *command: str) -> tuple[list[str], dict[str, str]]:
    # Interpreter and packages may lie where only root can look; nothing can be written there all the same.
    reading = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    become = ["setpriv", f"--reuid={ANY_ID}", "--regid=0", "--clear-groups", *reading]
    given = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "CONSILIUM_HOME": str(home),
        "TMPDIR": str(home),
        "OMP_NUM_THREADS": "1",
    }
    return [*become, sys.executable, *command], given


def test_every_command_runs(home: Path, tiny_folder: Path) -> None:
    cohort = str(home / "cohort")
    commands = [
        ["models", "list"],
        ["keys", "create", "pacs"],
        ["audit-log", "new-key"],
        ["phantom", cohort, "--studies", "40", "--seed", "1", "--size", "64", "--workers", "1"],
        ["check", cohort, "--no-audit"],
        ["diagnose", str(tiny_folder), "--note", "history=Fever and cough.", "--level", "fast"],
    ]
    command, given = _as_anybody(home, "-c", _COMMANDS, json.dumps(commands))
    ended = subprocess.run(
        command, check=False, cwd=ROOT, env=given, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stderr.splitlines()[-1])
    assert (result["user"], result["uid"]) == (f"uid-{ANY_ID}", ANY_ID)
    # There is no store yet: one line.
    assert list(result["codes"].values()) == [1, 0, 0, 0, 0, 0], ended.stderr


def test_the_service_starts(home: Path, tiny_folder: Path) -> None:
    port = free_port()
    command, given = _as_anybody(home, "-m", "consilium.cli", "serve", str(tiny_folder), "--port", str(port))
    log = home / "serve.log"
    with log.open("wb") as file, subprocess.Popen(command, cwd=ROOT, env=given, stdout=file, stderr=file) as serving:
        try:
            assert _ready(f"http://127.0.0.1:{port}/readyz", serving), log.read_text()
            assert Path(f"/proc/{serving.pid}").stat().st_uid == ANY_ID
        finally:
            serving.terminate()
            serving.wait(PATIENCE_S)


def _ready(url: str, serving: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and serving.poll() is None:
        try:
            if httpx.get(url, timeout=2).status_code == httpx.codes.OK:
                return True
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    return False
