"""Observations as `consilium diagnose` takes them: a CSV table, or a JSON list."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from consilium.domain.errors import InputError
from consilium.formats.text_files import read_text

_COLUMNS = ("code", "value", "unit", "comparator", "time")
_OPTIONAL = ("comparator", "time")


def observations_from_files(values: Sequence[str], option: str) -> list[Any]:
    """The observations of a request, from the files that `option` names.

    Raises
    ------
    InputError
        Names the option or the row.
    """
    return [record for value in values for record in _read(Path(value), option)]


def _read(path: Path, option: str) -> list[Any]:
    text = read_text(path, option)
    if path.suffix.lower() == ".csv":
        return _csv_observations(text, option)
    try:
        records = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(option, path.name, "must be a .csv table or JSON") from None
    if not isinstance(records, list):
        raise InputError(option, type(records).__name__, "must be a list of observations")
    return records


def _csv_observations(text: str, option: str) -> list[dict[str, object]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = list(reader.fieldnames or ())
        if len(set(columns)) < len(columns) or not set(_COLUMNS) - set(_OPTIONAL) <= set(columns) <= set(_COLUMNS):
            rule = f"must have the columns {', '.join(_COLUMNS)}, of which {' and '.join(_OPTIONAL)} may be missing"
            raise InputError(option, ", ".join(columns), rule)
        return [_csv_observation(row, f"observations[{number}]") for number, row in enumerate(reader)]
    except csv.Error:
        raise InputError(option, "broken CSV", "must be a table with one header line") from None


def _csv_observation(row: dict[str | Any, str | Any], field: str) -> dict[str, object]:
    if None in row or None in row.values():
        raise InputError(field, "a row of another length", "must have as many cells as the header")
    optional = {name: row[name] for name in _OPTIONAL if row.get(name)}
    return {"code": row["code"], "value": row["value"], "unit": row["unit"], **optional}
