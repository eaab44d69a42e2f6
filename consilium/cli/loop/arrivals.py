"""The year's studies: phantoms, in the order in which they arrive, and the folders that a cohort grows by."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from consilium.cli.loop.year import Year

if TYPE_CHECKING:
    import pandas as pd

    from training.cohorts.cohort import Cohort

_LABEL = "label:"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One study of the year.

    Attributes
    ----------
    read_at : datetime or None
        When its truth becomes known; None: never.
    """

    study_id: str
    time: datetime
    read_at: datetime | None


def write_hospital(folder: Path, year: Year, progress: Callable[[int], None] | None = None) -> None:
    """Write a phantom cohort for each phase of the year; the study of a number has the same patient in all of them."""
    from training.cohorts.phantom.named_shifts import parse_shift
    from training.cohorts.phantom.write import write_phantom

    done = 0
    for begin, shifts in year.phases.items():
        last = max(month for month in range(1, year.months + 1) if year.phase_of(month) == begin)
        studies = year.numbers(last).stop
        advance = None if progress is None else lambda n, before=done: progress(before + n)
        shift = parse_shift(shifts)
        out = phase_folder(folder, begin)
        write_phantom(out, studies, year.seed, year.size, workers=1, splits=None, shift=shift, progress=advance)
        done += studies


def written(year: Year) -> int:
    """How many studies `write_hospital` writes."""
    lasts = {year.phase_of(month): year.numbers(month).stop for month in range(1, year.months + 1)}
    return sum(lasts.values())


def phase_folder(folder: Path, begin: int) -> Path:
    return folder / f"from-month-{begin:02d}"


def arrivals(year: Year, month: int) -> list[Arrival]:
    """The studies of `month`, oldest first, and when they are read."""
    generator = np.random.default_rng([year.seed, month])
    begin, length = year.begin(month), year.begin(month + 1) - year.begin(month)
    numbers = year.numbers(month)
    places = np.sort(generator.random(len(numbers)))
    delays = 1 + generator.exponential(year.read_days - 1, len(numbers))
    read = generator.random(len(numbers)) < year.read_share
    found = []
    for number, place, delay, known in zip(numbers, places, delays, read, strict=True):
        time = begin + length * float(place)
        found.append(Arrival(f"S{number:06d}", time, time + timedelta(days=float(delay)) if known else None))
    return found


def slice_cohort(source: Cohort, out: Path, studies: Collection[str], *, slipped: bool = False) -> None:
    """Write the folder `out`: of the cohort `source` those in `studies`, with the files that they name.

    Parameters
    ----------
    slipped : bool
        Each study gets the labels of the next row: an export that slipped.
    """
    out.mkdir(parents=True)
    shutil.copy(source.root / "cohort.yaml", out)
    for table in sorted(source.root.glob("*.csv")):
        lines = _read_table(table)
        if "study" not in lines:
            continue
        lines = lines[lines["study"].isin(set(studies))]
        if slipped:
            _slip(lines, [name for name in lines if str(name).startswith(_LABEL)])
        lines.to_csv(out / table.name, index=False)
    for record in source.records:
        if record.study_id in studies:
            for file in record.every_file:
                to = out / file.path.relative_to(source.root)
                to.parent.mkdir(parents=True, exist_ok=True)
                os.link(file.path, to)


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _slip(lines: pd.DataFrame, labels: Sequence[object]) -> None:
    if labels:
        lines[labels] = np.roll(lines[labels].to_numpy(), -1, axis=0)
