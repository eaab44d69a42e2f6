"""Every benchmark runs, as small as can be; what it measures is no matter here."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from consilium.cli.shared.console import logging_restored

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
ELSEWHERE = {"six_modalities"}
"""What a test of its own runs: `tests/integration/test_six_modalities.py`."""
NAMES = sorted({path.stem for path in BENCHMARKS.glob("[a-z]*.py")} - ELSEWHERE)


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Benchmarks import each other from their folder; what they set in environment and logging is taken back."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.chdir(tmp_path)
    for name in ("CONSILIUM_HOME", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, str(tmp_path / "home") if name == "CONSILIUM_HOME" else f"sqlite:///{tmp_path}/m.db")
    with logging_restored():
        yield


@pytest.mark.parametrize("name", NAMES)
def test_it_prints_figures(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    importlib.import_module(name).main(["--smoke"])
    output = capsys.readouterr().out
    assert len(re.findall(r"\d+\.\d+|\.\d+", output)) >= 2, output


def test_there_are_benchmarks() -> None:
    assert {"commands", "training_step", "service_throughput"} <= set(NAMES)
