"""Laboratory values and vital signs in a cohort folder: columns of ``studies.csv``, and the table ``observations.csv``.

- ``value:<name>``: a value of that variable, built-in or the cohort's own, in the unit that it is kept in.
- ``value:<name>_time``, optional: when it was measured (ISO 8601, with or without an offset from UTC).

``observations.csv``, one row a value: ``study``, ``code`` (LOINC or the cohort's own), ``value`` (a number, a limit
such as ``<0.3``, or a category such as ``trace``), ``unit`` (UCUM, or as laboratories write it), and optionally
``time`` and ``comparator`` (``<``, ``<=``, ``>=``, ``>``, where the value is a limit without it).

A value that its variable cannot have is a problem here, where a request's reader would leave it out with a warning: a
cohort is corrected before a model learns from it. Codes and units that are not known are left out there as here.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.domain.errors import InputError, Problem
from consilium.domain.variables import Kind, Variable, VariableTable
from consilium.formats.quantities import read_value
from consilium.formats.units import conversion
from consilium.modalities.observations.records import read_observations
from training.cohorts.cells import TIME, CellRule, is_time
from training.cohorts.column_reader import STUDIES, ColumnReader, Masking, StudyRecords, time_column
from training.cohorts.manifest_schema import table_problems

OBSERVATIONS = "observations.csv"
VALUE = "value:"

_ROW = MappingProxyType({name: name for name in ("code", "value", "comparator", "unit", "time")})
_REQUIRED = ("study", "code", "value", "unit")
_RULES: Mapping[str, Sequence[CellRule]] = MappingProxyType(
    {
        "code": (CellRule(str.strip, "must be a code such as LOINC 1988-5"),),
        "value": (CellRule(str.strip, "must be a number, a limit such as <0.3, or a category"),),
        "comparator": (),
        "unit": (),
        "time": (TIME,),
    }
)


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


class ValueColumns(ColumnReader):
    """Reads the columns of values, and the table of observations."""

    other_tables = (OBSERVATIONS,)

    def columns(self) -> Mapping[str, Sequence[CellRule]]:
        values = dict.fromkeys((f"{VALUE}{name}" for name in self._variables), ())
        if not self.tables.described:  # any may be of a variable that is not known
            return values | dict.fromkeys(self._in_studies, ())
        # A variable's own column is no time of another one.
        return {time_column(name): (TIME,) for name in values if name in self._in_studies} | values

    def present(self) -> npt.NDArray[np.bool_]:
        known = {one.study for one in self._given if one.raw["code"] in self._variables.codes}
        return self.tables.column("study").isin(known).to_numpy(bool)

    def read(self, mask: Masking) -> tuple[list[StudyRecords], list[Problem]]:
        del mask
        wrong = self._table_problems()
        reported = {(problem.table, problem.row, problem.column) for problem in wrong}
        values = _value_problems(self._given, self._variables)
        wrong += [problem for problem in values if (problem.table, problem.row, problem.column) not in reported]
        found, unread = ({}, []) if wrong else self._observations()
        problems = [*self.tables.lone_times(self._in_studies), *wrong, *unread]
        return [found.get(study, StudyRecords()) for study in self.tables.column("study")], problems

    @property
    def _variables(self) -> VariableTable:
        return self.tables.context.variables

    @property
    def _in_studies(self) -> list[str]:
        return [name for name in self.tables.studies.columns if name.startswith(VALUE)]

    @cached_property
    def _given(self) -> list[Given]:
        """All observations, those of ``studies.csv`` first."""
        return [*self._of_studies(), *self._of_table()]

    def _of_studies(self) -> Iterator[Given]:
        for column in self._in_studies:
            if (name := column.removeprefix(VALUE)) not in self._variables:
                continue
            variable = self._variables[name]
            code, times = own_unit_code(variable), time_column(column)
            columns = {"value": column, "time": times}
            for number, row in enumerate(self.tables.rows, start=2):
                if row[column].strip():
                    time = (row.get(times) or None) if is_time(row.get(times, "")) else None
                    raw = {"code": code, "value": row[column], "unit": variable.unit, "time": time}
                    yield Given(row.get("study", ""), raw, STUDIES, number, columns)

    def _of_table(self) -> Iterator[Given]:
        table = self.tables.others.get(OBSERVATIONS, pd.DataFrame())
        if not set(_REQUIRED) <= set(table.columns):
            return
        for number, row in enumerate(table.to_dict("records"), start=2):
            raw = {name: row[name].strip() for name in ("code", "value", "unit")}
            raw |= {name: row.get(name) or None for name in ("comparator", "time")}
            yield Given(row["study"], raw, OBSERVATIONS, number, _ROW)

    def _table_problems(self) -> list[Problem]:
        """What is wrong with single cells of the table, whatever variable they are of."""
        if OBSERVATIONS not in self.tables.others:
            return []
        known = set(self.tables.studies.get("study", []))
        rules = {"study": (CellRule(known.__contains__, f"must be a study of {STUDIES}"),), **_RULES}
        return table_problems(OBSERVATIONS, self.tables.others[OBSERVATIONS], rules, _REQUIRED)

    def _observations(self) -> tuple[dict[str, StudyRecords], list[Problem]]:
        """Observations and warnings of each study that has some."""
        by_study: dict[str, list[Given]] = defaultdict(list)
        for one in self._given:
            by_study[one.study].append(one)
        found: dict[str, StudyRecords] = {}
        problems = []
        for study, own in by_study.items():
            try:
                found[study] = StudyRecords(*read_observations([one.raw for one in own], context=self.tables.context))
            except InputError as error:
                problems.append(_placed(error, own))
        return found, problems


def own_unit_code(variable: Variable) -> str:
    """A code under which a value in the variable's own unit is what it is."""
    for code in variable.codes:
        if variable.kind is not Kind.NUMERIC:
            return code.code
        try:
            same = conversion(variable, code, variable.unit)
        except InputError:
            continue
        if abs(same(1.0) - 1.0) < 1e-9 and same(0.0) == 0:
            return code.code
    raise ValueError(f"{variable.name} has no code for values in {variable.unit}")


def _placed(error: InputError, given: Sequence[Given]) -> Problem:
    """`error` of one study's observations, at its place in their tables."""
    place = re.match(r"observations\[(\d+)\]", error.field)
    if place:
        return given[int(place[1])].problem(error)
    return Problem(given[0].table, None, "study", given[0].study, error.rule)


def _value_problems(given: Sequence[Given], variables: VariableTable) -> list[Problem]:
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
