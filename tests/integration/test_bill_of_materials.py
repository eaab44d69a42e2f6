"""`make sbom`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from service.packaging.pins import closure
from tests.conftest import ROOT


def test_the_bill_of_materials_names_every_pinned_dependency_of_the_service(tmp_path: Path) -> None:
    bill = tmp_path / "bill.json"
    # The environment is the one that runs this; make must not install into it.
    command = [
        "make",
        "--no-print-directory",
        "-o",
        f"{sys.prefix}/.installed",
        "sbom",
        f"VENV={sys.prefix}",
        f"SBOM={bill}",
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    told = json.loads(bill.read_bytes())

    assert (told["bomFormat"], told["metadata"]["component"]["name"]) == ("CycloneDX", "consilium")
    named = {component["name"]: component["version"] for component in told["components"]}
    assert named == closure("consilium", "serve")
    assert all(component["purl"].startswith("pkg:pypi/") for component in told["components"])
