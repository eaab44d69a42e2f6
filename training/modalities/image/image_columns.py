"""Images in a cohort folder: paths in ``studies.csv``.

- ``images``: relative paths joined by ``;``.
- ``views``: a view position for each, where the files do not say.

What DICOM headers name is taken out of the study's notes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import InputError, Problem, UnsupportedMedia
from consilium.domain.study import RecordFile
from consilium.ingest.deidentify import names_in_dicom
from consilium.modalities.image.image_record import ViewPosition
from training.cohorts.cells import CellRule, entries, path_rule
from training.cohorts.column_reader import ColumnReader, Masking, StudyRecords

IMAGES, VIEWS = "images", "views"

_HEAD_BYTES = 1 << 20
"""Names stand at the beginning of a file, long before its pixels."""

_POSITIONS = {view.value for view in ViewPosition}
_VIEW = CellRule(lambda cell: _POSITIONS.issuperset(entries(cell)), f"must be of {', '.join(sorted(_POSITIONS))}")


class ImageColumns(ColumnReader):
    """Reads the columns of images."""

    def columns(self) -> Mapping[str, Sequence[CellRule]]:
        return {IMAGES: (), VIEWS: (_VIEW,)}

    def present(self) -> npt.NDArray[np.bool_]:
        return np.array([bool(paths) for paths in self._entries(IMAGES)], bool)

    def names(self, number: int) -> Sequence[str]:
        root, paths = self.tables.root, entries(self.tables.rows[number].get(IMAGES, ""))
        readable = [root / path for path in paths if path_rule(root, path) is None]
        return [name for path in readable for name in _header_names(path)]

    def read(self, mask: Masking) -> tuple[list[StudyRecords], list[Problem]]:
        del mask
        images, views = self._entries(IMAGES), self._entries(VIEWS)
        unequal = [bool(own) and len(own) != len(paths) for paths, own in zip(images, views, strict=True)]
        problems = self._file_problems(images)
        problems += self.tables.problems(unequal, VIEWS, "must be one for each image")
        if problems:
            return [], problems
        return [StudyRecords(self._files(*study)) for study in zip(images, views, strict=True)], []

    def _entries(self, column: str) -> list[list[str]]:
        return [entries(cell) for cell in self.tables.column(column)]

    def _file_problems(self, images: Sequence[Sequence[str]]) -> list[Problem]:
        return [
            self.tables.problem(number, IMAGES, path, rule)
            for number, paths in enumerate(images)
            for path in paths
            if (rule := path_rule(self.tables.root, path)) is not None
        ]

    def _files(self, paths: Sequence[str], views: Sequence[str]) -> tuple[RecordFile, ...]:
        told = bool(views) and _POSITIONS.issuperset(views)
        known = [{"view": ViewPosition(view)} for view in views] if told else [{}] * len(paths)
        return tuple(RecordFile(IMAGES, self.tables.root / path, own) for path, own in zip(paths, known, strict=True))


def _header_names(path: Path) -> tuple[str, ...]:
    """What a DICOM file's header names; nothing of other files, nor of broken ones, which are refused later."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            try:
                return names_in_dicom(head)
            except UnsupportedMedia:
                return ()
            except InputError:  # cut within an element
                return names_in_dicom(head + file.read())
    except (InputError, OSError):
        return ()
