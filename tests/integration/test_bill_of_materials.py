"""`make sbom`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from scripts.page_packages import components
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
    contents = json.loads(bill.read_bytes())

    assert (contents["bomFormat"], contents["metadata"]["component"]["name"]) == ("CycloneDX", "consilium")
    of_page = [one for one in contents["components"] if one["purl"].startswith("pkg:npm/")]
    of_service = [one for one in contents["components"] if one not in of_page]
    assert {one["name"]: one["version"] for one in of_service} == closure("consilium", "serve")
    assert all(one["purl"].startswith("pkg:pypi/") for one in of_service)
    assert sorted(one["name"] for one in of_page) == ["clsx", "svelte"]
    assert [one["licenses"] for one in of_page] == [[{"license": {"id": "MIT"}}]] * 2


def test_the_licences_that_go_with_the_page_are_of_the_packages_in_its_lock_file() -> None:
    locked = json.loads((ROOT / "web" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    for one in components():
        entry = locked[f"node_modules/{one['name']}"]
        assert (one["version"], one["licenses"][0]["license"]["id"]) == (entry["version"], entry["license"])
        assert len(one["hashes"][0]["content"]) == 128  # SHA-512, as in the lock file


def test_the_wheel_s_packages_hold_the_built_page() -> None:
    ignored = subprocess.run(
        ["git", "check-ignore", "service/page/static/index.html", "service/page/static/third-party-licences.txt"],
        cwd=ROOT,
        check=False,
        capture_output=True,
    )
    assert ignored.stdout == b""  # hatchling leaves out what git ignores
    built = {path.name for path in (ROOT / "service" / "page" / "static").iterdir()}
    assert {"index.html", "assets", "third-party-licences.txt"} <= built
