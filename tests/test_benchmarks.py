"""Every benchmark runs, as small as can be; what it measures is no matter here."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NAMES = sorted(path.stem for path in BENCHMARKS.glob("[a-z]*.py"))


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks import each other from their folder, and what they set in the environment is taken back."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.chdir(tmp_path)
    for name in ("CONSILIUM_HOME", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, str(tmp_path / "home") if name == "CONSILIUM_HOME" else f"sqlite:///{tmp_path}/m.db")


@pytest.mark.parametrize("name", NAMES)
def test_it_prints_figures(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    importlib.import_module(name).main(["--smoke"])
    told = capsys.readouterr().out
    assert len(re.findall(r"\d+\.\d+|\.\d+", told)) >= 2, told


def test_there_are_benchmarks() -> None:
    assert {"commands", "training_step", "service_throughput"} <= set(NAMES)
