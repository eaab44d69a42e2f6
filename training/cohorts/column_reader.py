"""ColumnReader: how the tables of a cohort folder hold the records of one modality.

`training.cohorts.manifest` knows what every study has (pseudonyms, age, labels, split); the columns of each modality
are its reader's, and so are tables that it has beside ``studies.csv``. A modality whose records stand in cells of one
row declares `columns` and `read_row`; one that needs more derives a `ColumnReader` and declares it as `column_reader`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.domain.errors import InputError, Problem
from consilium.domain.study import Record, RecordFile
from consilium.modalities.modality import Modality, ReadingContext
from consilium.modalities.registry import modalities
from consilium.system.installed import load
from training.cohorts.cells import CellRule

STUDIES = "studies.csv"
OWN_COLUMNS = ("study", "patient", "age", "sex", "names", "reference_time", "split", "source", "date", "influenced")
"""Of ``studies.csv``, beside the labels, whatever the modalities."""
_FIRST_ROW = 2
"""Of the first study, as a spreadsheet counts; the header is row 1."""

Masking = Callable[[int, str], str]
"""``(number, text) -> text``: a text of the study without the patient's names, dates and identifiers."""


@dataclass(frozen=True)
class CohortTables:
    """What a cohort folder's tables hold, as text.

    Attributes
    ----------
    root : Path
    studies : DataFrame
        ``studies.csv``, which may lack columns; empty cells are ``""``. Number i stands in spreadsheet row i + 2.
    others : mapping of file name to DataFrame
        Those of `ColumnReader.other_tables` that are there.
    context : ReadingContext
        What records are read with: the cohort's zone and variables.
    described : bool
        False where ``cohort.yaml`` could not be read, so that the context lacks the cohort's own variables.
    """

    root: Path
    studies: pd.DataFrame
    others: Mapping[str, pd.DataFrame]
    context: ReadingContext
    described: bool = True

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """Each study's cells by column."""
        rows: list[dict[Any, str]] = self.studies.to_dict("records")
        return rows

    def column(self, name: str) -> pd.Series:
        """The cells of a column of ``studies.csv``, empty where there is no such column."""
        return self.studies[name] if name in self.studies else pd.Series("", index=self.studies.index)

    def filled(self, columns: Iterable[str]) -> npt.NDArray[np.bool_]:
        """Which studies have something in any of these `columns`, bool [N]."""
        found = np.zeros(len(self.studies), bool)
        for name in columns:
            found |= (self.column(name) != "").to_numpy(bool)
        return found

    def problem(self, number: int, column: str, value: object, rule: str) -> Problem:
        """One of the study with this number."""
        return Problem(STUDIES, number + _FIRST_ROW, column, value, rule)

    def problems(self, wrong: npt.ArrayLike, column: str, rule: str) -> list[Problem]:
        """One of each study that is `wrong`, bool [N], which shows in `column`."""
        cells, numbers = self.column(column), np.flatnonzero(wrong).tolist()
        return [self.problem(number, column, cells[number], rule) for number in numbers]

    def lone_times(self, columns: Iterable[str]) -> list[Problem]:
        """Cells of ``<column>_time`` that stand without what was made at that time, for each of `columns`."""
        problems = []
        for name in columns:
            lone = (self.column(name) == "") & (self.column(time_column(name)) != "")
            problems += self.problems(lone, time_column(name), f"must not stand without {name}")
        return problems


@dataclass(frozen=True, slots=True)
class StudyRecords:
    """What one study has of one modality; a `RecordFile` in place of a record is read later, into the cache."""

    records: tuple[Record | RecordFile, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[RecordFile, ...]:
        """What is read later."""
        return tuple(one for one in self.records if isinstance(one, RecordFile))

    @property
    def in_memory(self) -> tuple[Record, ...]:
        """The others."""
        return tuple(one for one in self.records if not isinstance(one, RecordFile))


class ColumnReader(ABC):
    """The columns of one modality in one cohort.

    Attributes
    ----------
    other_tables : tuple of str
        File names of optional tables beside ``studies.csv``.
    """

    other_tables: ClassVar[tuple[str, ...]] = ()

    def __init__(self, modality: Modality, tables: CohortTables) -> None:
        self.modality = modality
        self.tables = tables

    @abstractmethod
    def columns(self) -> Mapping[str, Sequence[CellRule]]:
        """The columns of ``studies.csv`` that may be there, each with the rules of its cells."""

    @abstractmethod
    def present(self) -> npt.NDArray[np.bool_]:
        """Which studies have a record that a model may learn from, bool [N]."""

    def names(self, number: int) -> Sequence[str]:
        """Names and identifiers of the patient that the records of a study give, which are taken out of its texts."""
        del number
        return ()

    @abstractmethod
    def read(self, mask: Masking) -> tuple[list[StudyRecords], list[Problem]]:
        """The records of each study; and everything that is wrong with them but what breaks the rules of `columns`.

        Cells that break these are met here, too, and passed over. Where there is a problem, the records are not used.

        Parameters
        ----------
        mask : callable
            By which texts are kept.
        """


class RowReader(ColumnReader):
    """Of a modality that declares its `columns` and how one row of them is read."""

    def columns(self) -> Mapping[str, Sequence[CellRule]]:
        return dict.fromkeys(self.modality.columns, ())

    def present(self) -> npt.NDArray[np.bool_]:
        return self.tables.filled(self.modality.columns)

    def read(self, mask: Masking) -> tuple[list[StudyRecords], list[Problem]]:
        del mask
        read, found, problems = load(self.modality.read_row), [], []
        for number, row in enumerate(self.tables.rows):
            cells = {column: row.get(column, "") for column in self.modality.columns}
            try:
                records, warnings = read(cells, root=self.tables.root, context=self.tables.context)
            except InputError as error:
                problems.append(self.tables.problem(number, error.field, error.value, error.rule))
            else:
                found.append(StudyRecords(tuple(records), tuple(warnings)))
        return found, problems


def time_column(column: str) -> str:
    """Where the times of what stands in `column` stand."""
    return f"{column}_time"


def reader_classes() -> Mapping[str, type[ColumnReader]]:
    """Of each modality that a cohort folder can hold."""
    readers = {one.name: load(one.column_reader) for one in modalities().values() if one.column_reader}
    return {name: readers.get(name, RowReader) for name, one in modalities().items() if name in readers or one.columns}


def column_readers(tables: CohortTables) -> Mapping[str, ColumnReader]:
    """The readers of `tables`, by modality and in order.

    Raises
    ------
    ValueError
        Where two modalities have the same column, or one has a column of `OWN_COLUMNS`.
    """
    readers = {name: reader(modalities()[name], tables) for name, reader in reader_classes().items()}
    declared = Counter(
        column for columns in (OWN_COLUMNS, *(one.columns() for one in readers.values())) for column in columns
    )
    twice = sorted(column for column, number in declared.items() if number > 1)
    if twice:
        raise ValueError(f"{', '.join(twice)}: must be columns of one modality, and not be of {', '.join(OWN_COLUMNS)}")
    return readers
