"""Laboratory values of the COVID-19 Image Repository (Winther et al., doi 10.6084/m9.figshare.12275009), by image file.

Its table, `data.csv` or a part of it, gives the day of each value relative to the image and no date. Here every image
was taken on one made-up day, so that the recipe's time window leaves out values from after the image and old ones.

Values are rounded, and ``-inf`` and ``inf`` mean below and above a limit of detection that is not given. Below it is
below the smallest number that the column has, above it above the largest, so these are kept as such limits. Admission,
intensive care and death are the outcome and are not read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from consilium.domain.errors import CohortError, InputError, Problem
from consilium.formats.decimals import read_decimal
from consilium.modalities.observations.observation import Observation
from consilium.modalities.observations.records import read_observations
from training.cohorts.tables import read_table

TABLES = ("labs.csv", "data.csv")
DAY_OF_IMAGE = datetime(2000, 1, 1, 12, tzinfo=UTC)
"""Stands for the day of every image."""

_FILE = "filename"
_BELOW, _ABOVE = "-inf", "inf"
# Blood gases are of blood that the table does not call arterial; D-dimer is taken to be in fibrinogen equivalents.
_VALUES = {
    "crp": ("1988-5", "mg/L"),
    "d-dimer": ("48065-7", "mg/L{FEU}"),
    "ldh": ("2532-0", "U/L"),
    "lymphocytes": ("26474-7", "10*3/uL"),
    "neutrophils": ("26499-4", "10*3/uL"),
    "pco2": ("11557-6", "mm[Hg]"),
    "po2": ("11556-8", "mm[Hg]"),
}


@dataclass(frozen=True, slots=True)
class _Cell:
    """A value as it stands, and its day relative to the image."""

    text: str
    day: float


def read_labs(path: Path) -> dict[str, tuple[Observation, ...]]:
    """Observations of each image, by the image's file name; their times are relative to `DAY_OF_IMAGE`.

    Parameters
    ----------
    path : Path
        The table, or a folder with one of `TABLES`.

    Raises
    ------
    InputError
        There is no such table.
    CohortError
        It lacks a column, names an image twice, or holds a value or day that is no number.
    """
    file = _table(path)
    table = read_table(file).apply(lambda column: column.str.strip())
    table.columns = table.columns.str.lower()
    if _FILE not in table and "image_id" in table:
        table[_FILE] = table["image_id"]
    needed = [_FILE, *(f"{name}_{part}" for name in _VALUES for part in ("val", "offset"))]
    missing = [name for name in needed if name not in table]
    if missing:
        raise CohortError([Problem(file.name, None, name, None, "must be there as a column") for name in missing])
    twice = table[_FILE][table[_FILE].duplicated()]
    if len(twice):
        raise CohortError(
            [Problem(file.name, row + 2, _FILE, name, "must name an image once") for row, name in twice.items()]
        )
    return dict(zip(table[_FILE], _observations(table, file.name), strict=True))


def _table(path: Path) -> Path:
    files = [path, *(path / name for name in TABLES)]
    for file in files:
        if file.is_file():
            return file
    rule = f"must be the repository's table, or a folder with {' or '.join(TABLES)}; leave it out to read no labs"
    raise InputError("cohort.labs", path.name, rule)


def _observations(table: pd.DataFrame, name: str) -> list[tuple[Observation, ...]]:
    """Of every row."""
    problems: list[Problem] = []
    cells = {value: [_cell(row, value, n, name, problems) for n, row in table.iterrows()] for value in _VALUES}
    if problems:
        raise CohortError(problems)
    limits = {value: _limits(column) for value, column in cells.items()}
    found = []
    for row in range(len(table)):
        raw = [_record(value, cells[value][row], limits[value]) for value in _VALUES]
        found.append(read_observations([one for one in raw if one is not None])[0])
    return found


def _cell(row: pd.Series, value: str, number: object, name: str, problems: list[Problem]) -> _Cell | None:
    text = str(row[f"{value}_val"])
    if not text:
        return None
    line = int(str(number)) + 2
    for column, given in ((f"{value}_val", text), (f"{value}_offset", str(row[f"{value}_offset"]))):
        try:
            day = 0.0 if given in (_BELOW, _ABOVE) and given is text else read_decimal(given, column)[0]
        except InputError as error:
            problems.append(Problem(name, line, column, given, error.rule))
            return None
    return _Cell(text, day)


def _limits(cells: list[_Cell | None]) -> Mapping[str, str]:
    """How a value beyond a limit of detection is written, by its text in the table."""
    numbers = [float(cell.text) for cell in cells if cell is not None]
    known = sorted(number for number in numbers if math.isfinite(number) and number > 0)
    return {_BELOW: f"<{known[0]:g}", _ABOVE: f">{known[-1]:g}"} if known else {}


def _record(value: str, cell: _Cell | None, limits: Mapping[str, str]) -> dict[str, object] | None:
    if cell is None or (cell.text in (_BELOW, _ABOVE) and cell.text not in limits):
        return None
    code, unit = _VALUES[value]
    time = (DAY_OF_IMAGE + timedelta(days=cell.day)).isoformat()
    return {"code": code, "value": limits.get(cell.text, cell.text), "unit": unit, "time": time}
