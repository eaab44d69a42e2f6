"""The manifest's tables as pandera schemas, and their failures as `Problem`s: all of them, with spreadsheet rows.

A check runs once per distinct value, so that 150,000 rows of ten codes cost ten checks.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from consilium.domain.errors import InputError, Problem
from consilium.domain.variables import VariableTable
from consilium.formats.demographics import AGE_RULE, SEX_RULE, read_age, read_sex
from consilium.formats.times import RULE as TIME_RULE
from consilium.formats.times import read_time
from consilium.modalities.image.image_record import ViewPosition
from consilium.modalities.registry import modalities
from consilium.modalities.text.note import NoteKind
from training.cohorts.cohort import SPLITS
from training.cohorts.manifest_variables import VALUE, time_column
from training.cohorts.tables import OUTSIDE, file_problem

STUDIES = "studies.csv"
OBSERVATIONS = "observations.csv"
LABEL = "label:"
NOTE_COLUMNS = {kind: f"note_{kind.value}" for kind in NoteKind}
TRUE, FALSE = ("1", "1.0"), ("0", "0.0")

_IN_TRUTH = f"{OUTSIDE}, and not in truth/"
_ESCAPE = "a note that itself begins with @ is written @@"
_NAMED_COLUMNS = (
    *("study", "patient", "age", "sex", "names", "reference_time", "images", "views"),
    *(f"{column}{suffix}" for column in NOTE_COLUMNS.values() for suffix in ("", "_time")),
    *("split", "source", "date"),
)
_OBSERVATION_COLUMNS = ("study", "code", "value", "comparator", "unit", "time")


def declared_columns() -> tuple[str, ...]:
    """Columns of ``studies.csv`` that modalities declare."""
    return tuple(column for modality in modalities().values() for column in modality.columns)


def parts(cell: str) -> list[str]:
    """The entries of a cell joined by ``;``, without the blanks around them."""
    return [part.strip() for part in cell.split(";")] if cell.strip() else []


def study_problems(table: pd.DataFrame, root: Path, variables: VariableTable) -> list[Problem]:
    """Everything wrong with single cells and columns of `table`, which is ``studies.csv`` as text."""
    labels = [name for name in table.columns if name.startswith(LABEL)]
    values = [f"{VALUE}{name}" for name in variables]
    times = [time_column(name) for name in values if name in table]
    problems = _unknown_columns(
        STUDIES,
        table.columns,
        [*_NAMED_COLUMNS, *declared_columns(), *labels, *values, *times],
        hint=f"{LABEL}<finding>",
    )
    if not labels:
        problems.append(
            Problem(STUDIES, None, LABEL, None, "must be there: one column a finding, such as label:pneumonia")
        )
    if table.empty:
        problems.append(Problem(STUDIES, None, "file", None, "must have a row for each study below its header"))
    columns = {name: _column(checks, name in ("study", "patient")) for name, checks in _study_checks().items()}
    columns |= {
        name: _column([_each(lambda cell: cell in ("", *TRUE, *FALSE), "must be 1, 0 or empty")]) for name in labels
    }
    # A variable's own column is no time of another one.
    columns |= {name: _column([_each(is_time, TIME_RULE)]) for name in set(times) - set(values)}
    return problems + _failures(pa.DataFrameSchema(columns), table, STUDIES) + _file_problems(table, root)


def observation_problems(table: pd.DataFrame, studies: Iterable[str]) -> list[Problem]:
    """What is wrong with single cells of `table`, ``observations.csv`` as text; of values only where there is none."""
    known = set(studies)
    checks = {
        "study": [_each(known.__contains__, f"must be a study of {STUDIES}")],
        "code": [_each(str.strip, "must be a code such as LOINC 1988-5")],
        "value": [_each(str.strip, "must be a number, a limit such as <0.3, or a category")],
        "comparator": [],
        "unit": [],
        "time": [_each(is_time, TIME_RULE)],
    }
    columns = {name: _column(own, name not in ("comparator", "time")) for name, own in checks.items()}
    problems = _unknown_columns(OBSERVATIONS, table.columns, _OBSERVATION_COLUMNS)
    return problems + _failures(pa.DataFrameSchema(columns), table, OBSERVATIONS)


def nearest(name: str, known: Sequence[str]) -> str:
    return difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]


def named_file(cell: str) -> str | None:
    """The file that a note's cell names; None where the cell is the text itself."""
    return cell[1:].strip() if cell.startswith("@") and not cell.startswith("@@") else None


def _study_checks() -> dict[str, list[pa.Check]]:
    # A name does not pass: it has a blank, a caret or an accent too many.
    pseudonym = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch
    filled = _each(pseudonym, "must be a pseudonym: 1 to 64 letters, digits, '.', '_' or '-'")
    time = _each(is_time, TIME_RULE)
    views = {view.value for view in ViewPosition}
    checks = {
        "study": [filled, pa.Check(lambda column: ~column.duplicated() | (column == ""), error="must be unique")],
        "patient": [filled],
        "age": [_each(_taken_by(read_age), AGE_RULE)],
        "sex": [_each(_taken_by(read_sex), SEX_RULE)],
        "reference_time": [time],
        "images": [],
        "views": [_each(lambda cell: views.issuperset(parts(cell)), f"must be of {', '.join(sorted(views))}")],
        "split": [_each(lambda cell: cell in ("", *SPLITS), f"must be one of {', '.join(SPLITS)} or empty")],
        "source": [],
        "date": [_each(_is_date_or_empty, "must be an ISO 8601 year, month, day or time")],
    }
    for column in NOTE_COLUMNS.values():
        checks[column] = []
        checks[f"{column}_time"] = [time]
    return checks


def _file_problems(table: pd.DataFrame, root: Path) -> list[Problem]:
    """A problem for each file that a cell names and that cannot be read."""
    problems = []
    for column in ("images", *NOTE_COLUMNS.values()):
        for row, cell in table[column].items() if column in table else ():
            note = None if column == "images" else named_file(cell)
            paths = parts(cell) if column == "images" else [] if note is None else [note]
            for path in paths:
                rule = path_rule(root, path)
                if rule is not None:
                    told = rule if note is None else f"{rule}; {_ESCAPE}"
                    problems.append(Problem(STUDIES, int(str(row)) + 2, column, path, told))
    return problems


def path_rule(root: Path, path: str) -> str | None:
    """The rule that a path of the manifest breaks, None where it may be read."""
    if path.replace("\\", "/").removeprefix("./").split("/")[0].lower() == "truth":
        return _IN_TRUTH
    return file_problem(root, path)


def _each(accepts: Callable[[str], object], rule: str) -> pa.Check:
    """A check of every distinct value of a column."""
    return pa.Check(
        lambda column: column.map({cell: bool(accepts(cell)) for cell in column.unique()}).astype(bool), error=rule
    )


def _taken_by(read: Callable[[str, str], object]) -> Callable[[str], bool]:
    def taken(cell: str) -> bool:
        try:
            read(cell, "cell")
        except InputError:
            return False
        return True

    return taken


def _column(checks: Sequence[pa.Check], required: bool = False) -> pa.Column:
    return pa.Column(None, list(checks), required=required)


def _failures(schema: pa.DataFrameSchema, table: pd.DataFrame, name: str) -> list[Problem]:
    try:
        schema.validate(table, lazy=True)
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


def _unknown_columns(table: str, columns: Iterable[str], known: Sequence[str], hint: str = "") -> list[Problem]:
    every = [*known, hint] if hint else list(known)
    return [
        Problem(table, None, name, name, f"is no known column; the nearest is {nearest(name, every)!r}")
        for name in columns
        if name not in known
    ]


def is_time(cell: str) -> bool:
    """Whether `cell` is empty or a date and time."""
    return _taken_by(read_time)(cell)


def _is_date_or_empty(cell: str) -> bool:
    if not cell or re.fullmatch(r"\d{4}(-(0[1-9]|1[0-2]))?", cell):
        return True
    try:
        datetime.fromisoformat(cell)
    except ValueError:
        return False
    return True
