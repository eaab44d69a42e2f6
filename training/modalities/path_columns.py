"""Files in a cohort folder: paths in a column of ``studies.csv``, joined by ``;``.

What DICOM headers name is taken out of the study's notes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import InputError, Problem
from consilium.domain.study import RecordFile
from consilium.ingest.deidentify import names_in_dicom
from training.cohorts.cells import CellRule, entries, path_rule
from training.cohorts.column_reader import ColumnReader, Masking, StudyRecords


class PathColumns(ColumnReader):
    """Reads one column of paths.

    Attributes
    ----------
    column : str
    files : str
        The input of files by which they are read.
    """

    column: ClassVar[str]
    files: ClassVar[str]

    def columns(self) -> Mapping[str, Sequence[CellRule]]:
        return {self.column: ()}

    def present(self) -> npt.NDArray[np.bool_]:
        return np.array([bool(paths) for paths in self._entries()], bool)

    def names(self, number: int) -> Sequence[str]:
        root, paths = self.tables.root, entries(self.tables.rows[number].get(self.column, ""))
        return [name for path in paths if path_rule(root, path) is None for name in self.names_in(root / path)]

    def names_in(self, path: Path) -> Sequence[str]:
        """Names and identifiers in one file; none of what is no DICOM, or is refused later."""
        try:
            return names_in_dicom(path.read_bytes())
        except (InputError, OSError):
            return ()

    def read(self, mask: Masking) -> tuple[list[StudyRecords], list[Problem]]:
        del mask
        root, studies = self.tables.root, self._entries()
        problems = [
            self.tables.problem(number, self.column, path, rule)
            for number, paths in enumerate(studies)
            for path in paths
            if (rule := path_rule(root, path)) is not None
        ]
        if problems:
            return [], problems
        return [StudyRecords(tuple(RecordFile(self.files, root / path) for path in paths)) for paths in studies], []

    def _entries(self) -> list[list[str]]:
        return [entries(cell) for cell in self.tables.column(self.column)]
