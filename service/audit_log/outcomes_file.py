"""A file of outcomes, as a laboratory, a registry or a radiology system exports them: read whole, with every problem.

CSV in UTF-8, one outcome a row: ``result_id``, or ``accession`` and where it is known ``issuer``; ``finding``;
``truth``; ``time``; and, if it is known, ``influenced``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from consilium.domain.errors import CohortError, InputError, Problem, os_cause
from consilium.domain.study import accession_digest
from consilium.formats.sent_records import nearest_key
from service.audit_log.store import read_past
from service.audit_log.tables import STATES

TABLE = "outcomes"
MOST_OUTCOMES = 200_000
_MOST_BYTES = 64 << 20
_NEEDED, _TARGETS, _OPTIONAL = ("finding", "truth", "time"), ("result_id", "accession"), ("issuer", "influenced")
_COLUMNS = (*_TARGETS, *_NEEDED, *_OPTIONAL)
_INFLUENCED = {"": None, "yes": True, "no": False, "true": True, "false": False, "1": True, "0": False}
HIDDEN = "(not shown)"
"""In place of an accession number: what is written to a terminal may end in a log."""


@dataclass(frozen=True, slots=True)
class OutcomeLine:
    """One row: of which answer, or answers about which order, what turned out to be.

    Attributes
    ----------
    row : int
        As a spreadsheet counts it.
    accession : str or None
        `consilium.domain.study.accession_digest`; None where the answer itself is named.
    """

    row: int
    result_id: UUID | None
    accession: str | None
    finding: str
    state: str
    time: datetime
    influenced: bool | None


def read_outcomes(path: Path, now: datetime) -> tuple[list[OutcomeLine], list[Problem]]:
    """The outcomes in `path`, and every problem of the rows that are none.

    Raises
    ------
    InputError, CohortError
        It is no table of outcomes at all.
    """
    lines: list[OutcomeLine] = []
    problems: list[Problem] = []
    for row, cells in enumerate(_rows(path), start=2):
        found, wrong = _line(row, cells, now)
        problems += wrong
        if found is not None:
            lines.append(found)
    return lines, problems


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        text = data.decode("utf-8-sig")
        table = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except OSError as error:
        raise InputError("FILE", str(path), f"must be a file that can be read ({os_cause(error)})") from None
    except UnicodeDecodeError:
        raise InputError("FILE", str(path), "must be text in UTF-8") from None
    except csv.Error as error:
        raise InputError("FILE", str(path), f"must be a table of comma-separated values ({error})") from None
    if len(data) > _MOST_BYTES or len(table) > MOST_OUTCOMES + 1:
        raise InputError("FILE", str(path), f"must hold at most {MOST_OUTCOMES} outcomes and {_MOST_BYTES} bytes")
    header = [name.strip() for name in table[0]] if table else []
    _require_columns(header)
    wrong = [
        Problem(TABLE, row, "row", f"{len(cells)} cells", f"must have {len(header)}, as the header has")
        for row, cells in enumerate(table[1:], start=2)
        if cells and len(cells) != len(header)
    ]
    if wrong:
        raise CohortError(wrong)
    return [dict(zip(header, (cell.strip() for cell in cells), strict=True)) if cells else {} for cells in table[1:]]


def _require_columns(header: Sequence[str]) -> None:
    problems = [
        Problem(TABLE, 1, name, name, f"is no known column; the nearest is {nearest_key(name, _COLUMNS)!r}")
        for name in header
        if name not in _COLUMNS
    ]
    problems += [
        Problem(TABLE, 1, name, name, "must stand in the header once") for name in _COLUMNS if header.count(name) > 1
    ]
    problems += [Problem(TABLE, 1, name, "nothing", "must be a column") for name in _NEEDED if name not in header]
    if not set(_TARGETS) & set(header):
        problems.append(Problem(TABLE, 1, "result_id", "nothing", "must be a column, or accession must be one"))
    if problems:
        raise CohortError(problems)


def _line(row: int, cells: Mapping[str, str], now: datetime) -> tuple[OutcomeLine | None, list[Problem]]:
    """The outcome of one row, or what is wrong with it; neither of an empty row."""
    if not any(cells.values()):
        return None, []
    problems: list[Problem] = []

    def read(column: str, reader: Any, rule: str) -> Any:
        try:
            return reader(cells.get(column, ""))
        except (KeyError, ValueError):
            problems.append(Problem(TABLE, row, column, cells.get(column, ""), rule))
        except InputError as error:
            problems.append(Problem(TABLE, row, column, error.value, error.rule))
        return None

    number, given = cells.get("accession", ""), cells.get("result_id", "")
    if bool(number) == bool(given):
        shown = "both" if number else "neither"
        problems.append(Problem(TABLE, row, "result_id", shown, "must be given, or accession, and not both"))
    result_id = read("result_id", UUID, "must be the id of an answer, a UUID") if given and not number else None
    state = read("truth", {one: one for one in STATES}.__getitem__, f"must be one of {', '.join(STATES)}")
    influenced = read("influenced", lambda word: _INFLUENCED[word.lower()], "must be yes, no or empty")
    finding = read("finding", _given, "must be given")
    time = read("time", lambda text: _past(text, now), "must be given: when it became known")
    if problems:
        return None, problems
    accession = accession_digest(number, cells.get("issuer", ""))
    return OutcomeLine(row, result_id, accession, finding, state, time, influenced), []


def _given(text: str) -> str:
    if not text:
        raise ValueError
    return text


def _past(text: str, now: datetime) -> datetime:
    return read_past(_given(text), "time", now).astimezone(UTC)
