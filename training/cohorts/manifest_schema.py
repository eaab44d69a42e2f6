"""The manifest's tables as pandera schemas, and their failures as `Problem`s: all of them, with spreadsheet rows.

A check runs once per distinct value, so that 150,000 rows of ten codes cost ten checks.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence

import pandas as pd
import pandera.pandas as pa

from consilium.domain.errors import Problem
from training.cohorts.cells import AGE, DATE, PSEUDONYM, SEX, SPLIT, TIME, TRUTH, CellRule
from training.cohorts.column_reader import OWN_COLUMNS, STUDIES

LABEL = "label:"


def study_problems(table: pd.DataFrame, columns: Mapping[str, Sequence[CellRule]]) -> list[Problem]:
    """Everything wrong with single cells and columns of `table`, which is ``studies.csv`` as text.

    Parameters
    ----------
    columns : mapping of column to rules of its cells
        Those of the modalities, which may be there.
    """
    labels = [name for name in table.columns if name.startswith(LABEL)]
    known = {*OWN_COLUMNS, *labels, *columns}
    problems = _unknown_columns(STUDIES, table.columns, known, hint=f"{LABEL}<finding>")
    if not labels:
        problems.append(
            Problem(STUDIES, None, LABEL, None, "must be there: one column a finding, such as label:pneumonia")
        )
    if table.empty:
        problems.append(Problem(STUDIES, None, "file", None, "must have a row for each study below its header"))
    checks = _study_checks() | {name: [_check(TRUTH)] for name in labels}
    checks |= {name: [_check(rule) for rule in rules] for name, rules in columns.items()}
    return problems + _failures(STUDIES, table, checks, ("study", "patient"))


def table_problems(
    name: str, table: pd.DataFrame, columns: Mapping[str, Sequence[CellRule]], required: Collection[str]
) -> list[Problem]:
    """Everything wrong with single cells and columns of another `table`, the file `name` as text.

    Parameters
    ----------
    columns : mapping of column to rules of its cells
        All that may be there.
    required : collection of str
        Those that must be.
    """
    problems = _unknown_columns(name, table.columns, columns)
    checks = {column: [_check(rule) for rule in rules] for column, rules in columns.items()}
    return problems + _failures(name, table, checks, required)


def nearest(name: str, known: Collection[str]) -> str:
    """The one of `known` that is spelt most like `name`."""
    return difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]


def _study_checks() -> dict[str, list[pa.Check]]:
    unique = pa.Check(lambda column: ~column.duplicated() | (column == ""), error="must be unique")
    return {
        "study": [_check(PSEUDONYM), unique],
        "patient": [_check(PSEUDONYM)],
        "age": [_check(AGE)],
        "sex": [_check(SEX)],
        "reference_time": [_check(TIME)],
        "split": [_check(SPLIT)],
        "date": [_check(DATE)],
        "influenced": [_check(TRUTH)],
    }


def _check(rule: CellRule) -> pa.Check:
    """`rule` for every distinct value of a column."""
    return pa.Check(
        lambda column: column.map({cell: bool(rule.accepts(cell)) for cell in column.unique()}).astype(bool),
        error=rule.rule,
    )


def _failures(
    name: str, table: pd.DataFrame, checks: Mapping[str, Sequence[pa.Check]], required: Collection[str]
) -> list[Problem]:
    columns = {column: own for column, own in checks.items() if column in required or (own and column in table)}
    schema = {column: pa.Column(None, list(own), required=column in required) for column, own in columns.items()}
    try:
        pa.DataFrameSchema(schema).validate(table, lazy=True)
    except pa.errors.SchemaErrors as errors:
        cases = errors.failure_cases
        return [
            Problem(name, None, str(value), None, "must be there as a column")
            if check == "column_in_dataframe"
            else Problem(name, int(row) + 2, str(column), value, str(check))
            for column, check, value, row in zip(
                cases["column"], cases["check"], cases["failure_case"], cases["index"], strict=True
            )
        ]
    return []


def _unknown_columns(table: str, columns: Iterable[str], known: Collection[str], hint: str = "") -> list[Problem]:
    every = [*known, hint] if hint else known
    return [
        Problem(table, None, name, name, f"is no known column; the nearest is {nearest(name, every)!r}")
        for name in columns
        if name not in known
    ]
