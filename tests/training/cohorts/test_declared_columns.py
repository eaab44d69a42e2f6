"""Columns of a manifest that a modality declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest

from consilium.domain.errors import CohortError, InputError
from consilium.domain.study import Record
from consilium.modalities.modality import ReadingContext
from consilium.modalities.registry import modalities
from training.cohorts import manifest, manifest_schema
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


@pytest.fixture
def _steps(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = replace(modalities()["text"], name="steps", inputs=(), limits=(), columns=("steps",))
    declared = replace(declared, read_row=f"{__name__}:read_steps")
    every = {**modalities(), "steps": declared}
    monkeypatch.setattr(manifest, "modalities", lambda: every)
    monkeypatch.setattr(manifest_schema, "modalities", lambda: every)


@pytest.mark.usefixtures("_steps")
def test_a_column_that_a_modality_declares_becomes_records_of_it(tmp_path: Path) -> None:
    rows = [{"study": f"s{n}", "patient": f"p{n}", "label:a": "1", "steps": steps} for n, steps in enumerate("78")]
    cohort = read_manifest(write(tmp_path, rows))
    assert [record.parts["steps"] for record in cohort.records] == [(Steps(7),), (Steps(8),)]
    assert cohort.records[0].study(()).parts == {"steps": (Steps(7),)}
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
