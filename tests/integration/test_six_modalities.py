"""Six modalities, five of them installed as a distribution of their own, go through the whole pipeline at once.

Their files hold waves of any length, which are read once into the cache. The benchmark does it and states time and
memory; here it is as small as can be.
"""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        module = importlib.import_module("six_modalities")
        result: dict[str, Any] = module.apart(tmp_path_factory.mktemp("six"), 200, 2)
    return result


def test_every_subset_is_calibrated(found: dict[str, Any]) -> None:
    assert found["calibrated"] == 2**6 - 1


def test_every_file_is_cached(found: dict[str, Any]) -> None:
    assert set(found["cached"]) == {f"wave_{letter}" for letter in "abcde"}
    assert all(150 < files < 200 for files in found["cached"].values()), "about a tenth of the studies lacks each"


def test_an_answer_is_read_from_all_six_and_explained(found: dict[str, Any]) -> None:
    six = {"observations", *found["cached"]}

    assert set(found["read"]) == six
    assert len(found["explained"]) == 4
    for one in found["explained"]:
        assert set(one["modalities"]) == six
        assert one["miss"] < 1e-5
        # Waves of 32 to 95 samples in windows of 8.
        assert all(4 <= one["units"][name] <= 11 for name in found["cached"])


def test_the_model_learns_and_memory_is_bounded(found: dict[str, Any]) -> None:
    assert 0.5 < found["auroc"] < 1
    assert max(found["memory_mib"].values()) < 3000


def test_the_benchmark_prints_figures(found: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    importlib.import_module("six_modalities").show(found)

    output = capsys.readouterr().out
    assert "63 subsets calibrated" in output
    assert f"mean AUROC {found['auroc']:.3f}" in output
