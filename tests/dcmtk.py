"""The programs of the Debian package dcmtk: pynetdicom installs others of the same names, earlier on the path."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S

_PATH = os.pathsep.join(("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"))
INSTALLED = shutil.which("storescu", path=_PATH) is not None
needs_dcmtk = pytest.mark.skipif(not INSTALLED, reason="the Debian package dcmtk is not installed")


def program(name: str) -> str:
    """The path of one of them."""
    found = shutil.which(name, path=_PATH)
    assert found is not None, name
    return found


def run(name: str, *arguments: str | Path | int) -> int:
    """The exit status of one of them."""
    command = [program(name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE_S).returncode
