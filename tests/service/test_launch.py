from __future__ import annotations

from pathlib import Path

import pytest

from service.launch import command, environment


def test_only_the_loopback_interface_is_ever_asked_for() -> None:
    arguments = command(4711)
    assert arguments[arguments.index("--host") + 1] == "127.0.0.1"
    assert arguments[arguments.index("--port") + 1] == "4711"


def test_paths_become_absolute_because_the_service_runs_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONSILIUM_HOME", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlruns/mlflow.db")
    given = environment("model", {"batch_size": 4})
    assert given["CONSILIUM_MODEL"] == str(tmp_path / "model")
    assert given["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path / 'mlruns' / 'mlflow.db'}"
    assert given["CONSILIUM_HOME"] == str(tmp_path / "var")
    assert given["CONSILIUM_BATCH_SIZE"] == "4"


def test_what_is_no_path_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    given = environment("models:/consilium-phantom@champion")
    assert given["CONSILIUM_MODEL"] == "models:/consilium-phantom@champion"
    assert given["MLFLOW_TRACKING_URI"] == "https://mlflow.example.org"
