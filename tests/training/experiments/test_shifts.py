from __future__ import annotations

from pathlib import Path

import pytest

from training.cohorts.phantom.record import Design
from training.experiments.shifts import _cohort


def test_shifted_cohorts_are_of_the_scheme_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIUM_HOME", str(tmp_path))
    roots = [_cohort(["prevalence:pneumonia=3"], 5, 64, 8, scheme) for scheme in ("ordinary", "interaction")]
    designs = [Design.load(root) for root in roots]
    assert len(set(roots)) == 2
    assert all(design is not None and design.shift.prevalence_odds == {"pneumonia": 3.0} for design in designs)
    assert [design.scheme for design in designs if design] == ["ordinary", "interaction"]
