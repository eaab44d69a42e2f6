"""Notes in a cohort folder: columns of ``studies.csv``.

- ``note_history``, ``note_indication``, ``note_findings``, ``note_impression``: the text itself, or
  ``@relative/path.txt``; a text that itself begins with ``@`` is written with ``@@``.
- ``note_<kind>_time``, optional: when it was written (ISO 8601, with or without an offset from UTC).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from consilium.domain.encoded_text import decode_text
from consilium.domain.errors import InputError, Problem
from consilium.modalities.text.note import Note, NoteKind
from consilium.modalities.text.records import read_notes
from training.cohorts.cells import TIME, CellRule, is_time, path_rule
from training.cohorts.column_reader import ColumnReader, Masking, StudyRecords, time_column
from training.cohorts.tables import unreadable

COLUMNS = {f"note_{kind.value}": kind for kind in NoteKind}
_ESCAPE = "a note that itself begins with @ is written @@"


class NoteColumns(ColumnReader):
    """Reads the columns of notes; what it keeps of them is masked."""

    def columns(self) -> Mapping[str, Sequence[CellRule]]:
        return dict.fromkeys(COLUMNS, ()) | {time_column(column): (TIME,) for column in COLUMNS}

    def present(self) -> npt.NDArray[np.bool_]:
        return self.tables.filled(COLUMNS)

    def read(self, mask: Masking) -> tuple[list[StudyRecords], list[Problem]]:
        problems = [*self._file_problems(), *self.tables.lone_times(COLUMNS)]
        studies = []
        for number, row in enumerate(self.tables.rows):
            notes: list[Note] = []
            warnings: list[str] = []
            for column in COLUMNS:
                try:
                    read, doubts = self._notes(row, column)
                except InputError as error:
                    problems.append(self.tables.problem(number, column, error.value, error.rule))
                else:
                    notes += [replace(note, text=mask(number, note.text)) for note in read]
                    warnings += doubts
            studies.append(StudyRecords(tuple(notes), tuple(warnings)))
        return studies, problems

    def _file_problems(self) -> list[Problem]:
        """One of each file that a cell names and that cannot be read."""
        return [
            self.tables.problem(number, column, path, f"{rule}; {_ESCAPE}")
            for column in COLUMNS
            for number, cell in enumerate(self.tables.column(column))
            if (path := _named_file(cell)) is not None and (rule := path_rule(self.tables.root, path)) is not None
        ]

    def _notes(self, row: Mapping[str, str], column: str) -> tuple[Sequence[Note], Sequence[str]]:
        """The note of one cell and what is doubtful about it; none where the cell is empty or names no such file."""
        text, time = self._text(row.get(column, "")), row.get(time_column(column), "")
        if text is None:
            return (), ()
        given = {"kind": COLUMNS[column].value, "text": text, "time": (time if is_time(time) else "") or None}
        return read_notes([given], field=column, context=self.tables.context)

    def _text(self, cell: str) -> str | None:
        """The text of a cell, from the file that it names where it names one; None where there is none to read."""
        path = _named_file(cell)
        if path is None:
            return cell.removeprefix("@") or None  # of two, the first says that the second is text
        if path_rule(self.tables.root, path) is not None:
            return None
        try:
            return decode_text((self.tables.root / path).read_bytes(), "text")
        except OSError as error:
            raise InputError("text", cell, unreadable(error)) from None


def _named_file(cell: str) -> str | None:
    """The file that a cell names; None where the cell is the text itself."""
    return cell[1:].strip() if cell.startswith("@") and not cell.startswith("@@") else None
