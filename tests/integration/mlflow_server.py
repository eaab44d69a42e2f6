"""MLflow's own server, as a process that a test may kill and start again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from service.app.launch import free_port
from tests.patience import PATIENCE_S


class MlflowServer:
    """A server that hands artifacts through; what it stores lies in `folder` and outlasts it.

    `artifacts` names another place for them, which the server reaches with the variables of `environment`.
    """

    def __init__(
        self, folder: Path, artifacts: str | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._folder = folder
        self._artifacts = artifacts or str(folder / "art")
        self._environment = dict(environment or {})
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        log = self._folder / "log"
        stores = ["--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}"]
        stores += ["--artifacts-destination", self._artifacts]
        command = [sys.executable, "-m", "mlflow", "server", *stores, "--port", str(self._port), "--workers", "1"]
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                stdout=file,
                stderr=file,
                start_new_session=True,
                env=os.environ | self._environment,
            )
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if httpx.get(f"{self.url}/health", timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
        raise AssertionError(f"the server is not ready:\n{log.read_text()}")

    def kill(self) -> None:
        """End it and its workers at once."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
