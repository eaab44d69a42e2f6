"""Fixtures of the tests of training."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.fixture
def own_signals(request: pytest.FixtureRequest) -> None:
    """A process whose SIGINT is Python's: once OpenVINO has been loaded, the second one ends the process."""
    if "openvino" not in sys.modules:
        return
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", request.node.nodeid]
    ended = subprocess.run(command, cwd=request.config.rootpath, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    pytest.skip("passed in a process of its own, since this one has loaded OpenVINO")
