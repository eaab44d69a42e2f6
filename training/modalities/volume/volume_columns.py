"""Volumes in a cohort folder: paths in ``studies.csv``.

- ``volumes``: relative paths joined by ``;``: zip archives of a DICOM series, enhanced DICOM objects, NIfTI files.

What DICOM headers name is taken out of the study's notes.
"""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import InputError, Problem
from consilium.domain.study import RecordFile
from consilium.formats.dicom.file_structure import is_dicom
from consilium.ingest.deidentify import names_in_dicom
from training.cohorts.cells import CellRule, entries, path_rule
from training.cohorts.column_reader import ColumnReader, Masking, StudyRecords

VOLUMES = "volumes"
_HEAD_BYTES = 1 << 20
"""Names stand at the beginning of a file, long before its pixels."""
_BROKEN = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
"""What `zipfile` raises of archives that are damaged."""


class VolumeColumns(ColumnReader):
    """Reads the column of volumes."""

    def columns(self) -> Mapping[str, Sequence[CellRule]]:
        return {VOLUMES: ()}

    def present(self) -> npt.NDArray[np.bool_]:
        return np.array([bool(paths) for paths in self._entries()], bool)

    def names(self, number: int) -> Sequence[str]:
        root, paths = self.tables.root, entries(self.tables.rows[number].get(VOLUMES, ""))
        return [name for path in paths if path_rule(root, path) is None for name in _names(root / path)]

    def read(self, mask: Masking) -> tuple[list[StudyRecords], list[Problem]]:
        del mask
        root, studies = self.tables.root, self._entries()
        problems = [
            self.tables.problem(number, VOLUMES, path, rule)
            for number, paths in enumerate(studies)
            for path in paths
            if (rule := path_rule(root, path)) is not None
        ]
        if problems:
            return [], problems
        return [StudyRecords(tuple(RecordFile(VOLUMES, root / path) for path in paths)) for paths in studies], []

    def _entries(self) -> list[list[str]]:
        return [entries(cell) for cell in self.tables.column(VOLUMES)]


def _names(path: Path) -> Sequence[str]:
    """Names and identifiers in the first DICOM file at `path`; none of another, or of one that is refused later."""
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                return _in_dicom(file) or ()
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    found = _in_dicom(file)
                if found is not None:
                    return found
    except (InputError, *_BROKEN):
        pass
    return ()


def _in_dicom(file: IO[bytes]) -> Sequence[str] | None:
    """Names and identifiers in one file; None where it is no DICOM."""
    head = file.read(_HEAD_BYTES)
    if not is_dicom(head):
        return None
    try:
        return names_in_dicom(head)
    except InputError:  # a data set that is deflated is read as a whole or not at all
        return names_in_dicom(head + file.read())
