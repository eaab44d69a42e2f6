"""Cohorts in memory for tests of the audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.domain.findings import Finding, FindingSet
from consilium.domain.study import Study
from training.cohorts.cohort import Cohort, StudyRecord
from training.data.cached_cohort import CachedCohort


def made_cohort(
    labels: npt.ArrayLike,
    *,
    patients: Sequence[Any] | None = None,
    root: Path = Path(),
    exclusive: bool = False,
    **columns: Sequence[Any],
) -> Cohort:
    """A cohort of these labels [N] or [N, F]; `columns`, a value each, are fields of its records, `PARTS` or images."""
    table = np.asarray(labels, np.float32)
    table = table.reshape(len(table), -1)
    findings = FindingSet(tuple(Finding(f"finding_{f}", f"Finding {f}") for f in range(table.shape[1])), exclusive)
    records = tuple(
        StudyRecord(
            f"study-{row}",
            f"patient-{row if patients is None else patients[row]}",
            own,
            parts={part: columns[name][row] for name, part in PARTS.items() if name in columns},
            files={"image": columns["images"][row]} if "images" in columns else {},
            **{name: values[row] for name, values in columns.items() if name not in (*PARTS, "images")},
        )
        for row, own in enumerate(table)
    )
    return Cohort("made", findings, records, root, "digest")


PARTS = {"notes": "text", "observations": "observations"}


class MadeCache:
    """Squares by digest."""

    def __init__(self, squares: Mapping[str, npt.NDArray[np.uint16]]) -> None:
        self._squares = dict(squares)

    def array(self, digest: str) -> npt.NDArray[np.uint16]:
        return self._squares[digest]


def made_cached(
    cohort: Cohort,
    studies: Sequence[Study] | None = None,
    squares: Mapping[str, npt.NDArray[np.uint16]] | None = None,
    refused: Mapping[str, str] | None = None,
) -> CachedCohort:
    """`cohort` as cached; without `studies`, none has an image."""
    seen = tuple(studies) if studies is not None else tuple(record.study() for record in cohort.records)
    return CachedCohort(cohort, {"image": MadeCache(squares or {})}, seen, dict(refused or {}))  # type: ignore[arg-type]
