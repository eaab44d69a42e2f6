"""Tables and the files they name: what the cohorts share in reading a folder that somebody else wrote."""

from __future__ import annotations

import csv
import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pandas as pd

from consilium.domain.encoded_text import decode_text
from consilium.domain.errors import CohortError, InputError, Problem

ABSENT = "must be a file that exists"
OUTSIDE = "must be a relative path inside the folder"
_LONGEST_CELL = 2**31 - 1
"""What is too long for its column is a problem of its row; Python's own limit would refuse the whole table."""


def read_table(path: Path) -> pd.DataFrame:
    """The CSV file at `path`, every cell as text, empty cells as ``""``; row i stands in spreadsheet row i + 2.

    Raises
    ------
    CohortError
        Where the file is missing, empty, not Unicode text or no CSV, names a column twice, or a row has more or fewer
        cells than the header.
    """
    table, ragged = read_ragged_table(path)
    if ragged:
        raise CohortError(ragged)
    return table


def read_ragged_table(path: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """As `read_table`, but rows of another length are filled up or cut, and each is a problem.

    The rest of the table can so be checked in the same go; what such a row holds is worth nothing.
    """
    try:
        text = decode_text(path.read_bytes(), "file")
        with _cells_of_any_length():
            rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except FileNotFoundError:
        raise CohortError([Problem(path.name, None, "file", path.name, ABSENT)]) from None
    except InputError as error:
        raise CohortError([Problem(path.name, None, error.field, error.value, error.rule)]) from None
    except csv.Error as error:
        raise CohortError([Problem(path.name, None, "file", str(error), "must be a CSV table")]) from None
    except OSError as error:
        raise CohortError([Problem(path.name, None, "file", path.name, unreadable(error))]) from None
    while rows and not rows[-1]:
        rows.pop()
    if not rows:
        raise CohortError([Problem(path.name, None, "file", path.name, "must be a CSV table with a header")])
    header = rows[0]
    twice = sorted({name for name in header if header.count(name) > 1})
    ragged = [
        Problem(path.name, number, "row", f"{len(row)} cells", f"must have {len(header)} cells, as the header has")
        for number, row in enumerate(rows[1:], start=2)
        if len(row) != len(header)
    ]
    if twice:
        raise CohortError([Problem(path.name, 1, name, name, "must name a column once") for name in twice] + ragged)
    width = len(header)
    cells = [row[:width] + [""] * (width - len(row)) for row in rows[1:]]
    return pd.DataFrame(cells, columns=header, dtype=str), ragged


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def unreadable(error: OSError) -> str:
    """The rule that a file breaks which the operating system does not hand out."""
    return f"must be a file that can be read ({error.strerror or type(error).__name__})"


def file_problem(root: Path, relative: str) -> str | None:
    """The rule that a file named by a table breaks, None where it is a file inside `root` that may be read.

    Symbolic links are followed first: a link that leaves the folder leaves it.
    """
    parts = PurePosixPath(relative).parts
    if not parts or relative.startswith("/") or "\\" in relative or ".." in parts or "\0" in relative:
        return OUTSIDE
    path = root / relative
    try:
        if not path.is_file():
            return ABSENT
        if not path.resolve().is_relative_to(root.resolve()):
            return OUTSIDE
    except (OSError, RuntimeError) as error:  # Python 3.11 calls a loop of links a RuntimeError
        return unreadable(error) if isinstance(error, OSError) else ABSENT
    readable = os.access(path, os.R_OK, effective_ids=True)
    return None if readable else unreadable(PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
