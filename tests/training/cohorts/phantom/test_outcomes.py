from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from training.cohorts.manifest import read_manifest
from training.cohorts.phantom.oracle import load_oracle
from training.cohorts.phantom.outcomes import best_passed, draw_fate, phantom_targets
from training.cohorts.phantom.state import MEMBERS, PRESENT
from training.cohorts.phantom.write import write_phantom

MADE = {"size": 64, "workers": 1, "modalities": ("text", "observations")}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "cohort"
    write_phantom(out, 60, 5, outcomes=True, **MADE)
    return out


def test_outcomes_change_nothing_else(cohort: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    write_phantom(plain, 60, 5, **MADE)
    ours, theirs = (pd.read_csv(root / "studies.csv", dtype=str) for root in (cohort, plain))
    beside = ["ordinal:severity", "time:death", "event:death"]
    assert ours.drop(columns=beside).equals(theirs)
    described = yaml.safe_load((cohort / "cohort.yaml").read_text())
    assert described.pop("targets")
    assert described == yaml.safe_load((plain / "cohort.yaml").read_text())
    assert (plain / "observations.csv").read_bytes() == (cohort / "observations.csv").read_bytes()
    assert "outcomes" not in (plain / "truth" / "design.yaml").read_text()
    assert load_oracle(plain).passed == {}


def test_what_is_written_is_read_and_follows_from_the_truth(cohort: Path) -> None:
    read = read_manifest(cohort)
    assert read.findings.targets == phantom_targets()
    truth = pd.read_csv(cohort / "truth" / "states.csv", keep_default_na=False)
    grades = [phantom_targets()[0].to_json()["grades"].index(grade) for grade in truth["severity"]]
    known = ~np.isnan(read.outcomes[:, 0, 0])
    assert known.any()
    assert not known.all()
    assert (read.outcomes[known, 0, 0] == np.array(grades)[known]).all()
    died = truth["death"].to_numpy(float)
    value, event = read.outcomes[:, 1].T
    assert (value[event == 1] == died[event == 1]).all()
    assert (value[event == 0] < died[event == 0]).all()


def test_fates_are_as_frequent_as_the_best_answer_says() -> None:
    state = PRESENT[0b000111]
    rng = np.random.default_rng(0)
    fates = [draw_fate(MEMBERS, state.tolist(), rng) for _ in range(4000)]
    grades, horizons = phantom_targets()[0].to_json()["grades"], phantom_targets()[1].to_json()["horizons"]
    above = [np.mean([grades.index(fate.grade) > k for fate in fates]) for k in range(3)]
    without = [np.mean([fate.died > horizon for fate in fates]) for horizon in horizons]
    assert [*above, *without] == pytest.approx(best_passed(MEMBERS, state[None])[0], abs=0.03)


def test_the_best_answer_lies_between_those_of_the_states(cohort: Path) -> None:
    passed = load_oracle(cohort).passed
    assert set(passed) == {"text", "observations", "text+observations"}
    every = best_passed(MEMBERS, PRESENT)
    best = passed["text+observations"]
    assert best.shape == (60, 6)
    assert (best >= every.min(axis=0) - 1e-12).all()
    assert (best <= every.max(axis=0) + 1e-12).all()
    assert (np.diff(best[:, :3], axis=1) <= 0).all()
