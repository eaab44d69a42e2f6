"""The observations of a cohort folder: rows of ``observations.csv`` and cells of the columns ``value:<name>``.

A value that its variable cannot have is a problem here, where a request's reader would leave it out with a warning: a
cohort is corrected before a model learns from it. Codes and units that are not known are left out there as here.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from consilium.domain.errors import InputError, Problem
from consilium.domain.variables import VariableTable
from consilium.formats.quantities import read_value
from consilium.formats.time_zone import TimeZone
from consilium.modalities.observations.observation import Observation
from consilium.modalities.observations.records import read_observations
from consilium.modalities.registry import default_context
from training.cohorts.manifest_schema import OBSERVATIONS, STUDIES
from training.cohorts.manifest_variables import own_unit_code, time_column, value_columns

Measured = dict[str, tuple[tuple[Observation, ...], tuple[str, ...]]]

_ROW = {name: name for name in ("code", "value", "comparator", "unit", "time")}


@dataclass(frozen=True, slots=True)
class Given:
    """One observation as a table gives it.

    Attributes
    ----------
    raw : mapping
        As `read_observations` takes it.
    columns : mapping of str to str
        Where each key of `raw` stands in the table's `row`.
    """

    study: str
    raw: Mapping[str, str | None]
    table: str
    row: int
    columns: Mapping[str, str]

    def problem(self, error: InputError) -> Problem:
        """`error`, at its place in the table."""
        key = error.field.rpartition(".")[2]
        return Problem(self.table, self.row, self.columns.get(key, self.columns["value"]), error.value, error.rule)


def given_observations(studies: pd.DataFrame, observations: pd.DataFrame, variables: VariableTable) -> list[Given]:
    """All of them, those of ``studies.csv`` first."""
    given = list(_of_studies(studies, variables)) if "study" in studies else []
    if {"study", "code", "value", "unit"} <= set(observations.columns):
        given += [
            Given(
                row["study"],
                {name: row[name].strip() for name in ("code", "value", "unit")}
                | {name: row.get(name) or None for name in ("comparator", "time")},
                OBSERVATIONS,
                number,
                _ROW,
            )
            for number, row in enumerate(observations.to_dict("records"), start=2)
        ]
    return given


def _of_studies(studies: pd.DataFrame, variables: VariableTable) -> Iterator[Given]:
    for column, variable in value_columns(list(studies.columns), variables).items():
        code, times = own_unit_code(variable), time_column(column)
        columns = {"value": column, "time": times}
        for number, row in enumerate(studies.to_dict("records"), start=2):
            if row[column].strip():
                raw = {"code": code, "value": row[column], "unit": variable.unit, "time": row.get(times) or None}
                yield Given(row["study"], raw, STUDIES, number, columns)


def observed_studies(given: Sequence[Given], variables: VariableTable) -> set[str]:
    """The studies with an observation that a model may learn from: one whose code is known."""
    return {one.study for one in given if one.raw["code"] in variables.codes}


def value_problems(given: Sequence[Given], variables: VariableTable) -> list[Problem]:
    """Every value that its variable cannot have."""
    found: dict[tuple[str | None, ...], InputError | None] = {}
    problems = []
    for one in given:
        key = one.raw["code"], one.raw["value"], one.raw.get("comparator")
        if key not in found:
            found[key] = _refused(*key, variables)
        error = found[key]
        if error is not None:
            problems.append(one.problem(error))
    return problems


def _refused(code: str | None, value: str | None, comparator: str | None, table: VariableTable) -> InputError | None:
    variable = table.by_code(code or "")
    if variable is None or not value:
        return None
    try:
        read_value(variable, value, comparator, "observation")
    except InputError as error:
        return error
    return None


def measured(
    given: Sequence[Given], variables: VariableTable, zone: TimeZone | None = None
) -> tuple[Measured, list[Problem]]:
    """Observations and warnings of each study; `given` have passed their checks."""
    by_study: dict[str, list[Given]] = defaultdict(list)
    for one in given:
        by_study[one.study].append(one)
    found: Measured = {}
    problems = []
    for study, own in by_study.items():
        try:
            found[study] = read_observations(
                [one.raw for one in own], context=default_context(variables=variables, zone=zone)
            )
        except InputError as error:
            place = re.match(r"observations\[(\d+)\]", error.field)
            problems.append(
                own[int(place[1])].problem(error) if place else Problem(own[0].table, None, "study", study, error.rule)
            )
    return found, problems
