"""An alarm starts a retraining: the hook as the real program takes it, and what must not start one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from tests.conftest import ROOT
from tests.orthanc import free_ports
from tests.patience import PATIENCE_S, until

PROGRAM = shutil.which("webhook")
DEPLOY = ROOT / "deploy"
TOKEN = 'a "quoted" token \\ of 32 letters'


@dataclass(frozen=True, slots=True)
class Hook:
    url: str
    calls: Path

    def post(self, status: str, token: str | None = TOKEN) -> int:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        sent = {"status": status, "alerts": [{"labels": {"alertname": "; touch x"}}]}
        return httpx.post(self.url, json=sent, headers=headers, trust_env=False, timeout=PATIENCE_S).status_code

    def started(self) -> list[list[str]]:
        return [json.loads(line) for line in self.calls.read_text().splitlines()]


@pytest.fixture(scope="module")
def hook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hook]:
    if PROGRAM is None:
        pytest.skip("the Debian package webhook is not installed")
    folder = tmp_path_factory.mktemp("hook")
    calls = folder / "calls"
    calls.touch()
    systemctl = folder / "systemctl"
    record = f'open("{calls}", "a").write(json.dumps(sys.argv[1:]) + "\\n")'
    systemctl.write_text(f"#!/usr/bin/env python3\nimport json, sys\n{record}\n")
    systemctl.chmod(0o755)
    (port,) = free_ports(1)
    command = [PROGRAM, "-template", "-nopanic", "-ip", "127.0.0.1", "-port", str(port)]
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "RETRAIN_HOOK_TOKEN": TOKEN}
    with (folder / "log").open("wb") as log:
        hooks = ["-hooks", str(DEPLOY / "alarm" / "hooks.yaml")]
        process = subprocess.Popen([*command, *hooks], env=environment, stdout=log, stderr=log)
    try:
        yield Hook(_ready(port, process), calls)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _ready(port: int, process: subprocess.Popen[bytes]) -> str:
    def answers() -> bool:
        assert process.poll() is None
        with suppress(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/", trust_env=False, timeout=PATIENCE_S)
            return True
        return False

    until(answers)
    return f"http://127.0.0.1:{port}/hooks/retrain"


def test_only_a_standing_alarm_with_the_token_starts_it(hook: Hook) -> None:
    assert hook.post("firing", None) == hook.post("firing", "another") == hook.post("resolved") == 403
    assert httpx.get(hook.url, trust_env=False, timeout=PATIENCE_S).status_code == 405
    assert hook.started() == []

    assert hook.post("firing") == 200

    until(hook.started)
    assert hook.started() == [["start", "--no-block", "consilium-retrain.service"]]


def test_alert_hook_and_units_name_each_other() -> None:
    (named,) = yaml.safe_load((DEPLOY / "alarm" / "alertmanager.yaml").read_text())["route"]["routes"]
    (group,) = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"]
    unit = (DEPLOY / "systemd" / "consilium-alarm.service").read_text()

    assert named["matchers"] == ['alertname="ConsiliumMonitorAlarm"']
    assert "ConsiliumMonitorAlarm" in {rule["alert"] for rule in group["rules"]}
    assert "-port 9099 " in unit
    assert ":9099/hooks/retrain" in (DEPLOY / "alarm" / "alertmanager.yaml").read_text()
    assert (DEPLOY / "systemd" / "consilium-retrain.service").is_file()
