"""Cells of a cohort's tables: what those of a column may hold, and the files that they name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from consilium.domain.errors import InputError
from consilium.formats.demographics import AGE_RULE, SEX_RULE, read_age, read_sex
from consilium.formats.times import RULE as TIME_RULE
from consilium.formats.times import read_time
from training.cohorts.cohort import SPLITS
from training.cohorts.tables import OUTSIDE, file_problem

_IN_TRUTH = f"{OUTSIDE}, and not in truth/"


@dataclass(frozen=True, slots=True)
class CellRule:
    """What every cell of a column must be.

    Attributes
    ----------
    accepts : callable
        Whether a cell, as text, is that; asked once for each distinct value.
    rule : str
        It in words: ``must be 1, 0 or empty``.
    """

    accepts: Callable[[str], object]
    rule: str


def taken_by(read: Callable[[str, str], object]) -> Callable[[str], bool]:
    """Whether ``read(cell, field)`` takes a cell; it refuses one by an `InputError`."""

    def taken(cell: str) -> bool:
        try:
            read(cell, "cell")
        except InputError:
            return False
        return True

    return taken


is_time = taken_by(read_time)
"""Whether a cell is empty or a date and time."""


def _is_date_or_empty(cell: str) -> bool:
    if not cell or re.fullmatch(r"\d{4}(-(0[1-9]|1[0-2]))?", cell):
        return True
    try:
        datetime.fromisoformat(cell)
    except ValueError:
        return False
    return True


# A name does not pass: it has a blank, a caret or an accent too many.
PSEUDONYM = CellRule(
    re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch, "must be a pseudonym: 1 to 64 letters, digits, '.', '_' or '-'"
)
AGE = CellRule(taken_by(read_age), AGE_RULE)
SEX = CellRule(taken_by(read_sex), SEX_RULE)
TIME = CellRule(is_time, TIME_RULE)
DATE = CellRule(_is_date_or_empty, "must be an ISO 8601 year, month, day or time")
SPLIT = CellRule(lambda cell: cell in ("", *SPLITS), f"must be one of {', '.join(SPLITS)} or empty")
TRUE, FALSE = ("1", "1.0"), ("0", "0.0")
TRUTH = CellRule(lambda cell: cell in ("", *TRUE, *FALSE), "must be 1, 0 or empty")


def entries(cell: str) -> list[str]:
    """The entries of a cell joined by ``;``, without the blanks around them."""
    return [entry.strip() for entry in cell.split(";")] if cell.strip() else []


def path_rule(root: Path, path: str) -> str | None:
    """The rule that a path in a table of the cohort at `root` breaks, None where it may be read."""
    if path.replace("\\", "/").removeprefix("./").split("/")[0].lower() == "truth":
        return _IN_TRUTH
    return file_problem(root, path)
