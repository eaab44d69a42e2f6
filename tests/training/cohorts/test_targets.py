from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.domain.errors import CohortError, InputError
from consilium.domain.targets import OrdinalTarget, SurvivalTarget
from tests.training.cohorts.test_manifest import problems, write
from training.cohorts.manifest import read_manifest
from training.cohorts.targets import step_labels

NAN = float("nan")
SEVERITY = {"name": "severity", "grades": ["none", "mild", "severe"]}
DEATH = {"name": "death", "horizons": [30, 90], "unit": "days"}
GRADES = OrdinalTarget("severity", "Severity", ("none", "mild", "severe"))
TIMES = SurvivalTarget("death", "Death", (30.0, 90.0))
FILLED = {"ordinal:severity": "mild", "time:death": "12.5", "event:death": "1"}
EMPTY = dict.fromkeys(FILLED, "")


def test_targets_are_read_with_what_is_unknown(tmp_path: Path) -> None:
    censored = EMPTY | {"time:death": "90", "event:death": "0"}
    cohort = read_manifest(write(tmp_path, FILLED, EMPTY, censored, description={"targets": [SEVERITY, DEATH]}))
    assert cohort.findings.targets == (GRADES, TIMES)
    expected = [[[1, 1], [12.5, 1]], [[NAN, NAN]] * 2, [[NAN, NAN], [90, 0]]]
    assert np.array_equal(cohort.outcomes, np.array(expected), equal_nan=True)


def test_a_cohort_without_targets_is_what_it_was(tmp_path: Path) -> None:
    for name in ("plain", "graded"):
        (tmp_path / name).mkdir()
    cohort = read_manifest(write(tmp_path / "plain", {}))
    graded = read_manifest(
        write(tmp_path / "graded", FILLED, description={"name": "plain", "targets": [SEVERITY, DEATH]})
    )
    assert cohort.outcomes.shape == (1, 0, 2)
    assert cohort.digest != graded.digest
    bare = graded.answering(())
    assert bare.findings == cohort.findings
    assert bare.records[0].outcomes == ()


@pytest.mark.parametrize(
    ("study", "targets", "column", "rule"),
    [
        ({"ordinal:severity": "Mild"}, [SEVERITY], "ordinal:severity", "must be one of none, mild, severe, or empty"),
        ({"time:death": "12", "event:death": ""}, [DEATH], "event:death", "must be filled where time:death is"),
        ({"time:death": "", "event:death": "0"}, [DEATH], "event:death", "must be filled where time:death is"),
        ({"time:death": "0", "event:death": "1"}, [DEATH], "time:death", "must be a number above 0"),
        ({"time:death": "1,000", "event:death": "1"}, [DEATH], "time:death", "with a decimal point"),
        ({"time:death": "12", "event:death": "yes"}, [DEATH], "event:death", r"must be 1 \(the event\), 0"),
        ({"time:death": "12"}, [DEATH], "event:death", "must be there as a column"),
        ({"ordinal:severty": "mild"}, [], "ordinal:severty", "must be of a target that cohort.yaml names"),
        ({}, [SEVERITY | {"grades": ["one"]}], "targets.0.severity.grades", "two or more different names"),
        ({}, [DEATH | {"horizons": [90, 30]}], "targets.0.death.horizons", "rising times above 0"),
        ({}, [SEVERITY | DEATH], "targets.0.grades", "either grades"),
        ({}, [SEVERITY | {"name": "How bad"}], "targets.0.target.name", "lower-case identifier"),
        ({}, [SEVERITY | {"grade": 1}], "targets.0.grade", "the nearest is 'grades'"),
    ],
)
def test_what_is_wrong_with_targets_is_named(
    tmp_path: Path, study: dict[str, str], targets: list[object], column: str, rule: str
) -> None:
    found = problems(write(tmp_path, study, description={"targets": targets}))
    assert [problem.column for problem in found] == [column]
    with pytest.raises(CohortError, match=rule):
        read_manifest(tmp_path)


def test_a_near_name_is_suggested(tmp_path: Path) -> None:
    study = {"ordinal:severity": "mild", "ordinal:severty": "mild"}
    (problem,) = problems(write(tmp_path, study, description={"targets": [SEVERITY]}))
    assert "the nearest is 'ordinal:severity'" in problem.rule


def test_a_target_must_not_be_called_as_a_finding(tmp_path: Path) -> None:
    study = {"ordinal:pneumonia": "mild"}
    (problem,) = problems(write(tmp_path, study, description={"targets": [SEVERITY | {"name": "pneumonia"}]}))
    assert "nor as a finding" in problem.rule


def test_another_meaning_of_a_target_is_refused(tmp_path: Path) -> None:
    cohort = read_manifest(write(tmp_path, {"ordinal:severity": "mild"}, description={"targets": [SEVERITY]}))
    with pytest.raises(InputError, match="severity"):
        cohort.answering((OrdinalTarget("severity", "Severity", ("none", "severe")),))
    assert np.isnan(cohort.answering((TIMES,)).outcomes).all()


def test_a_grade_passes_the_steps_below_it_and_comes_to_its_own() -> None:
    outcomes = np.array([[[0, 1]], [[1, 1]], [[2, 1]], [[NAN, NAN]]])
    expected = [[0, NAN], [1, 0], [1, 1], [NAN, NAN]]
    assert np.array_equal(step_labels((GRADES,), outcomes), expected, equal_nan=True)


@pytest.mark.parametrize(
    ("time", "event", "expected"),
    [
        (10, 1, [0, NAN]),
        (30, 1, [0, NAN]),
        (30.1, 1, [1, 0]),
        (91, 1, [1, 1]),
        (14.9, 0, [NAN, NAN]),
        (15, 0, [1, NAN]),
        (59, 0, [1, NAN]),
        (60, 0, [1, 1]),
    ],
)
def test_who_is_lost_from_the_middle_of_an_interval_on_lived_through_it(
    time: float, event: int, expected: list[float]
) -> None:
    assert np.array_equal(step_labels((TIMES,), np.array([[[time, event]]])), [expected], equal_nan=True)


@given(st.lists(st.tuples(st.floats(0.1, 200), st.booleans()), min_size=1, max_size=20))
def test_nobody_comes_to_a_step_after_one_not_passed(outcomes: list[tuple[float, bool]]) -> None:
    labels = step_labels((TIMES,), np.array(outcomes, np.float64)[:, None])
    for row in labels:
        reached = row[~np.isnan(row)]
        assert np.isnan(row[len(reached) :]).all(), "what is known comes first"
        assert (reached[:-1] == 1).all()
