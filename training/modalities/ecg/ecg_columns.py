"""ECGs in a cohort folder: paths in ``studies.csv``.

- ``ecg``: relative paths joined by ``;``: DICOM waveforms, zip archives of a WFDB record, CSV, or the header (.hea) of
  a WFDB record whose signal files lie beside it.

What DICOM headers name is taken out of the study's notes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import InputError, Problem
from consilium.domain.study import RecordFile
from consilium.ingest.deidentify import names_in_dicom
from training.cohorts.cells import CellRule, entries, path_rule
from training.cohorts.column_reader import ColumnReader, Masking, StudyRecords

ECG, FILES = "ecg", "ecgs"


class EcgColumns(ColumnReader):
    """Reads the column of ECGs."""

    def columns(self) -> Mapping[str, Sequence[CellRule]]:
        return {ECG: ()}

    def present(self) -> npt.NDArray[np.bool_]:
        return np.array([bool(paths) for paths in self._entries()], bool)

    def names(self, number: int) -> Sequence[str]:
        root, paths = self.tables.root, entries(self.tables.rows[number].get(ECG, ""))
        found: list[str] = []
        for path in (root / path for path in paths if path_rule(root, path) is None):
            try:
                found += names_in_dicom(path.read_bytes())
            except (InputError, OSError):  # no DICOM, or a file that is refused later
                continue
        return found

    def read(self, mask: Masking) -> tuple[list[StudyRecords], list[Problem]]:
        del mask
        root, studies = self.tables.root, self._entries()
        problems = [
            self.tables.problem(number, ECG, path, rule)
            for number, paths in enumerate(studies)
            for path in paths
            if (rule := path_rule(root, path)) is not None
        ]
        if problems:
            return [], problems
        return [StudyRecords(tuple(RecordFile(FILES, root / path) for path in paths)) for paths in studies], []

    def _entries(self) -> list[list[str]]:
        return [entries(cell) for cell in self.tables.column(ECG)]
