"""A manifest's targets beside the findings: what ``cohort.yaml`` declares, and their columns in ``studies.csv``.

- ``ordinal:<name>``: one of the target's ``grades``, or empty for unknown.
- ``time:<name>`` and ``event:<name>``: how long a patient was followed, in the target's ``unit``, and whether that
  ended with the event (1) or without (0); both, or both empty for unknown.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.domain.errors import InputError, Problem
from consilium.domain.findings import FindingSet
from consilium.domain.targets import OrdinalTarget, SurvivalTarget, Target
from consilium.formats.decimals import parse_decimal
from training.cohorts.cells import FALSE, TRUE, CellRule
from training.cohorts.cohort import Outcome
from training.cohorts.column_reader import STUDIES
from training.cohorts.manifest_description import DESCRIPTION, TargetEntry

Floats = npt.NDArray[np.float64]
Outcomes = list[tuple[Outcome | None, ...]]

ORDINAL, TIME, EVENT = TARGETS = ("ordinal:", "time:", "event:")
_KIND_RULE = "must have either grades, from the least, or horizons, and a unit only with these"
_EVENT_RULE = "must be 1 (the event), 0 (followed so long without it) or empty"
_TIME_RULE = "must be a number above 0 with a decimal point, such as 12.5, or empty"


def target_columns(studies: pd.DataFrame) -> dict[str, Sequence[CellRule]]:
    """The columns of targets, declared or not; their cells are checked by `read_targets`."""
    return {name: () for name in studies.columns if name.startswith(TARGETS)}


def read_targets(
    entries: Sequence[TargetEntry], studies: pd.DataFrame, findings: FindingSet
) -> tuple[FindingSet, Outcomes, list[Problem]]:
    """`findings` with the targets of ``cohort.yaml``, what became of each study, and what is wrong with either."""
    targets, problems = _described(entries)
    if problems:
        return findings, [], problems
    outcomes, problems = _outcomes(studies, targets)
    try:
        return replace(findings, targets=targets), outcomes, problems
    except InputError as error:
        return findings, [], [*problems, Problem(DESCRIPTION, None, error.field, error.value, error.rule)]


def _described(entries: Sequence[TargetEntry]) -> tuple[tuple[Target, ...], list[Problem]]:
    targets: list[Target] = []
    problems: list[Problem] = []
    for number, entry in enumerate(entries):
        try:
            targets.append(_target(entry))
        except InputError as error:
            problems.append(Problem(DESCRIPTION, None, f"targets.{number}.{error.field}", error.value, error.rule))
    return tuple(targets), problems


def _target(entry: TargetEntry) -> Target:
    display = entry.display or entry.name.replace("_", " ").capitalize()
    if entry.grades is not None and entry.horizons is None and entry.unit is None:
        return OrdinalTarget(entry.name, display, tuple(entry.grades))
    if entry.horizons is not None and entry.grades is None:
        return SurvivalTarget(entry.name, display, tuple(entry.horizons), entry.unit or "days")
    raise InputError("grades", entry.name, _KIND_RULE)


def columns_of(target: Target) -> tuple[str, ...]:
    """The columns of ``studies.csv`` that hold what became of each study."""
    if isinstance(target, OrdinalTarget):
        return (f"{ORDINAL}{target.name}",)
    return (f"{TIME}{target.name}", f"{EVENT}{target.name}")


def _outcomes(studies: pd.DataFrame, targets: Sequence[Target]) -> tuple[Outcomes, list[Problem]]:
    problems = _column_problems(studies, targets)
    if problems:
        return [], problems
    outcomes: Outcomes = []
    for number, row in enumerate(studies.to_dict("records")):
        found: list[Outcome | None] = []
        for target in targets:
            try:
                found.append(_READERS[type(target)](target, row))
            except InputError as error:
                problems.append(Problem(STUDIES, number + 2, error.field, error.value, error.rule))
        outcomes.append(tuple(found))
    return outcomes, problems


def _column_problems(studies: pd.DataFrame, targets: Sequence[Target]) -> list[Problem]:
    needed = [name for target in targets for name in columns_of(target)]
    rule = f"must be there as a column: {DESCRIPTION} names this target"
    problems = [Problem(STUDIES, None, name, None, rule) for name in needed if name not in studies]
    for name in target_columns(studies):
        if name not in needed:
            nearest = difflib.get_close_matches(name, needed, n=1, cutoff=0.0)
            known = f"; the nearest is {nearest[0]!r}" if nearest else ""
            rule = f"must be of a target that {DESCRIPTION} names under targets{known}"
            problems.append(Problem(STUDIES, None, name, name, rule))
    return problems


def _grade(target: Target, row: Mapping[Hashable, str]) -> Outcome | None:
    assert isinstance(target, OrdinalTarget)
    (column,) = columns_of(target)
    cell = row[column]
    if not cell:
        return None
    if cell not in target.grades:
        raise InputError(column, cell, f"must be one of {', '.join(target.grades)}, or empty")
    return Outcome(float(target.grades.index(cell)))


def _time(target: Target, row: Mapping[Hashable, str]) -> Outcome | None:
    time, event = columns_of(target)
    followed, ended = row[time], row[event]
    if ended not in ("", *TRUE, *FALSE):
        raise InputError(event, ended, _EVENT_RULE)
    if bool(followed) != bool(ended):
        raise InputError(event, ended, f"must be filled where {time} is, and only there")
    if not followed:
        return None
    parsed = parse_decimal(followed)
    if parsed is None or parsed.comma or parsed.value <= 0:
        raise InputError(time, followed, _TIME_RULE)
    return Outcome(parsed.value, ended in TRUE)


_READERS: Mapping[type, Callable[[Target, Mapping[Hashable, str]], Outcome | None]] = {
    OrdinalTarget: _grade,
    SurvivalTarget: _time,
}


def step_labels(targets: Sequence[Target], outcomes: Floats) -> Floats:
    """Whether each study passed each step, float64 [N, S]: 1 it did, 0 it did not, NaN it did not come to it.

    Whoever is no longer followed before the middle of an interval did not come to its step; from there on the interval
    counts as lived through (Gensheimer and Narasimhan 2019).

    Parameters
    ----------
    outcomes : float64 [N, G, 2]
        As `Cohort.outcomes`.
    """
    parts = [np.empty((len(outcomes), 0))]
    for position, target in enumerate(targets):
        value, observed = outcomes[:, position, 0], outcomes[:, position, 1] == 1
        passed, step = _passed(target, value, observed)[:, None], np.arange(len(target.steps))
        labels = np.where(step < passed, 1.0, np.where((step == passed) & observed[:, None], 0.0, np.nan))
        parts.append(np.where(np.isnan(value)[:, None], np.nan, labels))
    return np.concatenate(parts, axis=1)


def _passed(target: Target, value: Floats, observed: npt.NDArray[np.bool_]) -> Floats:
    """How many steps each study passed, [N]."""
    if isinstance(target, OrdinalTarget):
        return value
    horizons = np.array(target.horizons)
    middles = (horizons + np.array([0.0, *horizons[:-1]])) / 2
    whole, half = np.searchsorted(horizons, value, side="left"), np.searchsorted(middles, value, side="right")
    return np.where(observed, whole, half).astype(np.float64)
