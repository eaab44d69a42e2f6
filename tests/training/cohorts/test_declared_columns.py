"""Columns of a manifest that a modality declares, and tables that it reads itself."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from consilium.domain.errors import CohortError, InputError, Problem
from consilium.domain.study import Record
from consilium.modalities import registry
from consilium.modalities.modality import ReadingContext
from consilium.modalities.registry import modalities
from training.cohorts import column_reader
from training.cohorts.cells import CellRule
from training.cohorts.column_reader import ColumnReader, Masking, StudyRecords
from training.cohorts.manifest import read_manifest


def write(root: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    pd.DataFrame(rows).to_csv(root / "studies.csv", index=False)
    return root


@dataclass(frozen=True, slots=True)
class Steps(Record):
    """Steps walked on a day: a modality of this test alone."""

    count: int

    field: ClassVar[str] = "steps"

    @property
    def digest(self) -> str:
        return f"{self.count:064x}"


def read_steps(row: Mapping[str, str], *, root: Path, context: ReadingContext) -> tuple[tuple[Steps, ...], list[str]]:
    if row["steps"] and not row["steps"].isdecimal():
        raise InputError("steps", row["steps"], "must be a number of steps")
    return ((Steps(int(row["steps"])),), ["steps counted"]) if row["steps"] else ((), [])


class StepsColumns(ColumnReader):
    """Steps of several days, rows of a table of their own; its column `walker` names the patient."""

    other_tables = ("steps.csv",)

    def columns(self) -> Mapping[str, Sequence[CellRule]]:
        return {"device": (CellRule(str.islower, "must be in lower case"),)}

    def present(self) -> npt.NDArray[np.bool_]:
        return np.array([bool(self.rows(number)) for number in range(len(self.tables.rows))])

    def names(self, number: int) -> Sequence[str]:
        return [row["walker"] for row in self.rows(number)]

    def read(self, mask: Masking) -> tuple[list[StudyRecords], list[Problem]]:
        days = [self.rows(number) for number in range(len(self.tables.rows))]
        cells = [row["steps"] for rows in days for row in rows if not row["steps"].isdecimal()]
        if cells:
            return [], [Problem("steps.csv", None, "steps", cell, "must be a number") for cell in cells]
        return [StudyRecords(tuple(Steps(int(row["steps"])) for row in rows)) for rows in days], []

    def rows(self, number: int) -> list[dict[Hashable, str]]:
        table = self.tables.others.get("steps.csv", pd.DataFrame(columns=["study"]))
        return table[table.study == self.tables.rows[number]["study"]].to_dict("records")


def install(monkeypatch: pytest.MonkeyPatch, **declared: Any) -> None:
    """A modality `steps` beside the built-in ones."""
    steps = replace(modalities()["text"], name="steps", inputs=(), limits=(), **{"column_reader": "", **declared})
    every = {**modalities(), "steps": steps}
    for module in (registry, column_reader):
        monkeypatch.setattr(module, "modalities", lambda: every)


@pytest.fixture
def _steps(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, columns=("steps",), read_row=f"{__name__}:read_steps")


@pytest.fixture
def _steps_table(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, column_reader=f"{__name__}:StepsColumns")


@pytest.mark.usefixtures("_steps")
def test_a_column_that_a_modality_declares_becomes_records_of_it(tmp_path: Path) -> None:
    rows = [{"study": f"s{n}", "patient": f"p{n}", "label:a": "1", "steps": steps} for n, steps in enumerate("78")]
    cohort = read_manifest(write(tmp_path, rows))
    assert [record.parts["steps"] for record in cohort.records] == [(Steps(7),), (Steps(8),)]
    assert cohort.records[0].study().parts == {"steps": (Steps(7),)}
    assert cohort.records[0].warnings == ("steps counted",)
    rows[1]["steps"] = "9"
    assert read_manifest(write(tmp_path, rows)).digest != cohort.digest


@pytest.mark.usefixtures("_steps")
def test_a_cell_that_a_modality_refuses_is_a_problem_of_its_row(tmp_path: Path) -> None:
    rows = [{"study": f"s{n}", "patient": f"p{n}", "label:a": "1", "steps": steps} for n, steps in enumerate("7x")]
    with pytest.raises(CohortError) as refused:
        read_manifest(write(tmp_path, rows))
    (problem,) = refused.value.problems
    assert (problem.row, problem.column, problem.rule) == (3, "steps", "must be a number of steps")


def walked(root: Path, *lines: str, **study: str) -> Path:
    (root / "steps.csv").write_text("\n".join(["study,steps,walker", *lines]))
    return write(root, [{"study": "s0", "patient": "p0", "label:a": "1", "device": "watch", **study}])


@pytest.mark.usefixtures("_steps_table")
def test_a_modality_may_read_a_table_of_its_own_and_tell_names_that_notes_lose(tmp_path: Path) -> None:
    root = walked(tmp_path, "s0,7,Hibbert", "s0,8,Hibbert", "s9,1,Riviera", note_history="Walks with Hibbert, Riviera.")
    (record,) = read_manifest(root).records
    assert record.parts["steps"] == (Steps(7), Steps(8))
    assert [note.text for note in record.parts["text"]] == ["Walks with [name], Riviera."]


@pytest.mark.usefixtures("_steps_table")
def test_a_study_may_stand_in_a_table_of_a_modality_alone(tmp_path: Path) -> None:
    assert len(read_manifest(walked(tmp_path, "s0,7,Hibbert"))) == 1
    with pytest.raises(CohortError, match="must have an image, a note, an observation, an ECG, a volume, a sound or"):
        read_manifest(walked(tmp_path))


@pytest.mark.usefixtures("_steps_table")
def test_problems_of_all_readers_and_of_rows_of_another_length_are_in_one_report(tmp_path: Path) -> None:
    root = walked(tmp_path, "s0,many,Hibbert", "s0,8", device="Watch", images="none.png")
    with pytest.raises(CohortError) as refused:
        read_manifest(root)
    assert {(problem.table, problem.row, problem.column) for problem in refused.value.problems} == {
        ("steps.csv", 3, "row"),
        ("steps.csv", None, "steps"),
        ("studies.csv", 2, "device"),
        ("studies.csv", 2, "images"),
    }


@pytest.mark.parametrize("column", ["images", "note_history_time", "value:crp", "age"])
def test_a_column_is_of_one_modality(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str) -> None:
    install(monkeypatch, columns=(column,), read_row=f"{__name__}:read_steps")
    with pytest.raises(ValueError, match=f"^{column}: must be columns of one modality"):
        read_manifest(walked(tmp_path))


@pytest.mark.parametrize(
    ("declared", "rule"),
    [
        ({"columns": ("steps",)}, "must have both columns and read_row, or neither"),
        ({"read_row": "steps:read"}, "must have both columns and read_row, or neither"),
        (
            {"columns": ("steps",), "read_row": "steps:read", "column_reader": "steps:StepsColumns"},
            "must have a column_reader or columns, not both",
        ),
    ],
)
def test_a_declaration_whose_columns_have_no_reader_or_two_is_refused(declared: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        replace(modalities()["text"], **{"column_reader": "", **declared})
