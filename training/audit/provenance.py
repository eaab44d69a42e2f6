"""Where a record came from: everything of it that a model should not need to see what a patient has.

`provenance` gives one table of features per group of facts, of which most are each modality's own
(`training.training_side.TrainingSide.origins`). None of them is pathology, but some may be medicine all the same
(`ambiguous_groups`): who is too ill to stand is imaged lying down, what was measured tells what was feared, and how
well an image can be compressed depends on what it shows.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.configuration.modality_sections import Scope
from consilium.domain.study import Sex, Study
from training.cohorts.cohort import StudyRecord
from training.data.cached_cohort import CachedCohort
from training.training_side import Row, training_sides

_COMMON: Mapping[str, str] = {
    "source": "the site",
    "date": "the date and hour",
    "missingness": "which fields are filled",
}
"""Groups of features that belong to no modality, and what each is called in a sentence."""


def origin_groups() -> dict[str, str]:
    """Every group of features, and what it is called in a sentence; those of the modalities last."""
    return dict(_COMMON) | {name: display for side in training_sides() for name, display in side.origin_groups.items()}


def ambiguous_groups() -> tuple[str, ...]:
    """Groups that may carry medicine, too."""
    return ("missingness", *(name for side in training_sides() for name in side.ambiguous_groups))


_MOST_CATEGORIES = 100


def provenance(cached: CachedCohort, inputs: Scope) -> dict[str, pd.DataFrame]:
    """Features of every study, by group, in the order of `origin_groups`.

    Parameters
    ----------
    cached : CachedCohort
    inputs : Scope
        Records count where the model would read them.

    Returns
    -------
    dict of str to DataFrame
        N rows each. Numbers are float64 with NaN for unknown; names are categories. Groups in which all studies are
        alike, and columns of them, are left out: they can tell nothing.
    """
    whole = list(zip(cached.cohort.records, cached.studies, strict=True))
    rows: dict[str, list[Row]] = {group: [{} for _ in whole] for group in origin_groups()}
    common: Mapping[str, Sequence[Row]] = {
        "source": [{"source": record.source} for record, _ in whole],
        "date": [_date(record, _moment(record, study)) for record, study in whole],
        "missingness": [_filled(record) for record, _ in whole],
    }
    for found in (common, *(side.origins(cached, inputs) for side in training_sides())):
        for group, own in found.items():
            rows[group] = [_joined(group, row, more) for row, more in zip(rows[group], own, strict=True)]
    tables = {group: _table(group_rows) for group, group_rows in rows.items()}
    return {group: table for group, table in tables.items() if table.shape[1]}


def _joined(group: str, row: Row, more: Row) -> Row:
    if twice := row.keys() & more.keys():
        raise ValueError(f"two modalities give {', '.join(sorted(twice))} of {group}")
    return {**row, **more}


def _moment(record: StudyRecord, study: Study) -> datetime | None:
    if study.reference_time is not None:
        return record.zone.local(study.reference_time)
    try:
        # A year alone is no moment, though ISO 8601 would let "2020" pass for one in some versions.
        return datetime.fromisoformat(record.date) if record.date and len(record.date) > len("2020-01") else None
    except ValueError:
        return None


def _date(record: StudyRecord, moment: datetime | None) -> Row:
    stated = re.search(r"(?:19|20)\d\d", record.date or "")
    row: Row = {"year": float(stated.group()) if stated else math.nan}
    if moment is not None:
        row |= {"day": float(moment.toordinal()), "month": float(moment.month), "weekday": float(moment.weekday())}
        row |= {"hour": float(moment.hour), "year": row["year"] if stated else float(moment.year)}
    return row


def _filled(record: StudyRecord) -> Row:
    """Which fields of the record are filled that belong to no modality."""
    return {
        "age": float(record.patient.age is not None),
        "sex": float(record.patient.sex is not Sex.UNKNOWN),
        "date": float(record.date is not None),
        "source": float(record.source is not None),
        "reference_time": float(record.reference_time is not None),
    }


def _table(rows: Sequence[Row]) -> pd.DataFrame:
    """Columns that differ between studies: numbers as they are, names as categories, the rare ones as one."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    return pd.DataFrame({name: column for name, column in columns.items() if len(column.unique()) > 1})


def _column(cells: Sequence[object]) -> pd.Series:
    if not any(isinstance(cell, str) for cell in cells):
        numbers: npt.NDArray[np.float64] = np.array([math.nan if c is None else c for c in cells], np.float64)
        return pd.Series(numbers)
    counts = Counter(str(cell) for cell in cells if cell)
    code = {name: number for number, (name, _) in enumerate(counts.most_common(_MOST_CATEGORIES))}
    known = [code.get(str(cell), _MOST_CATEGORIES) if cell else None for cell in cells]
    return pd.Series(pd.Categorical(known))
