"""`consilium gateway run` in a process of its own, which a test may kill and start again on the same store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.conftest import ROOT
from tests.orthanc import free_ports
from tests.patience import PATIENCE_S


@dataclass
class GatewayProcess:
    """A gateway and its file of settings.

    Attributes
    ----------
    settings : dict
        Of gateway.yaml, with free ports in place of 0.
    """

    folder: Path
    settings: dict[str, Any]
    http_port: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def file(self) -> Path:
        return self.folder / "gateway.yaml"

    @property
    def log(self) -> str:
        return (self.folder / "gateway.log").read_text(errors="replace")

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        command = [sys.executable, "-m", "consilium.cli", "gateway", "run", str(self.file)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with (self.folder / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{self.http_port}/readyz", timeout=2, trust_env=False).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"the gateway is not ready:\n{self.log[-3000:]}")

    def kill(self) -> None:
        """End it with no chance to put anything in order."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE_S)


@contextmanager
def running_gateway(folder: Path, settings: dict[str, Any]) -> Iterator[GatewayProcess]:
    """A gateway for as long as the block runs; `settings` go before those of a store in `folder`."""
    (http_port,) = free_ports(1)
    base: dict[str, Any] = {
        "time_zone": "Europe/Berlin",
        "store": {"folder": "store", "key_file": "store.key", "free": "1MB"},
        "http": {"listen": f"127.0.0.1:{http_port}"},
    }
    folder.mkdir(exist_ok=True)
    gateway = GatewayProcess(folder, base | settings, http_port)
    gateway.file.write_text(yaml.safe_dump(gateway.settings, sort_keys=False))
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()
