"""The documentation site."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

GENERATED = ROOT / "docs" / "reference" / "generated"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    make = [sys.executable, ROOT / "scripts" / "reference_pages.py", GENERATED]
    subprocess.run(make, check=True, cwd=ROOT, capture_output=True)
    build = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "--doctree-dir"]
    done = subprocess.run(
        [*build, tmp_path / "doctrees", ROOT / "docs", tmp_path / "site"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "site" / "how-to" / "own-cohort.html").is_file()
