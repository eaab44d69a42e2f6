"""The reading page's files: what is committed is what the source builds, within its budgets and its policy."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WEB = ROOT / "web"
BUILT = ROOT / "service" / "page" / "static"
MOST_JAVASCRIPT, MOST_CSS = 60_000, 10_000
_LEAST_NODE = (20, 19)
STORES = re.compile(r"localStorage|sessionStorage|indexedDB|document\.cookie|caches\.")


def _node() -> bool:
    if shutil.which("npm") is None or (node := shutil.which("node")) is None:
        return False
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, version.lstrip("v").split(".")[:2])) >= _LEAST_NODE


@pytest.fixture(scope="module")
def packages() -> Path:
    """`web/`, with what its lock file names installed."""
    if not _node():
        pytest.skip("Node 20 is not installed")
    lock, installed = WEB / "package-lock.json", WEB / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        found = subprocess.run(["npm", "ci", "--prefer-offline"], cwd=WEB, capture_output=True, text=True, check=False)
        if found.returncode:
            pytest.skip("the packages of web/package-lock.json cannot be installed")
    return WEB


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _sources(pattern: str) -> list[Path]:
    return sorted((WEB / "src").rglob(pattern))


def _compressed(suffix: str) -> int:
    return sum(len(gzip.compress(data, 9)) for name, data in _files(BUILT).items() if name.endswith(suffix))


def test_what_is_committed_is_what_the_source_builds(packages: Path, tmp_path: Path) -> None:
    command = ["npx", "vite", "build", "--logLevel", "error", "--outDir", str(tmp_path / "static")]
    subprocess.run(command, cwd=packages, check=True, capture_output=True)
    built = _files(tmp_path / "static")
    assert sorted(built) == sorted(_files(BUILT))
    assert [name for name, data in built.items() if (BUILT / name).read_bytes() != data] == []


@pytest.mark.parametrize("script", ["check", "test"])
def test_types_and_pure_parts_are_sound(packages: Path, script: str) -> None:
    command = ["npm", "run", "--silent", script]
    found = subprocess.run(command, cwd=packages, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_the_page_is_small() -> None:
    assert 0 < _compressed(".js") <= MOST_JAVASCRIPT
    assert 0 < _compressed(".css") <= MOST_CSS


def test_templates_keep_the_policy() -> None:
    for path in _sources("*.svelte"):
        source = path.read_text(encoding="utf-8")
        assert "{@html" not in source, path
        assert re.search(r"<[^>]*\sstyle=", source) is None, path
        assert "<style" not in source, path


def test_nothing_but_preferences_is_stored_in_the_browser() -> None:
    storing = [
        path.name
        for pattern in ("*.ts", "*.svelte")
        for path in _sources(pattern)
        if STORES.search(path.read_text(encoding="utf-8"))
    ]
    assert storing == ["preferences.svelte.ts"]


def test_versions_are_exact_and_the_lock_file_names_no_host() -> None:
    package = json.loads((WEB / "package.json").read_text(encoding="utf-8"))
    assert "dependencies" not in package
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in package["devDependencies"].values())
    assert '"resolved"' not in (WEB / "package-lock.json").read_text(encoding="utf-8")
