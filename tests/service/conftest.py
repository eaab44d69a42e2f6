"""A home of its own for every test, with the keys that `consilium serve` would make there."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.audit_log.pseudonyms import make_keys


@pytest.fixture(autouse=True)
def embedded_audit_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``CONSILIUM_HOME``."""
    folder = tmp_path / "home"
    monkeypatch.setenv("CONSILIUM_HOME", str(folder))
    make_keys(folder / "audit-log.keys")
    return folder
