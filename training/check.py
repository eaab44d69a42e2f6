"""What is in a cohort: counts, labels, missingness, and every file that cannot be used."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from consilium.analytes import ANALYTES
from consilium.errors import InputError, TrainingError
from consilium.ingest.decode_pool import DecodePool
from consilium.recipe import SplitRecipe
from consilium.study import Image, Modality, ViewPosition
from training.cohorts.cohort import Cohort, StudyRecord
from training.splits import split_cohort

_MOST_PROBLEMS = 50
"""More are counted, but not listed on a terminal."""
_UNSPLIT = "not fixed"


@dataclass(frozen=True, slots=True, eq=False)
class CohortReport:
    """What a cohort holds and what is wrong with it.

    Attributes
    ----------
    counts : dict of str to int
        Studies, patients, images, notes, observations.
    labels : DataFrame
        Present, absent and unknown, per finding and split.
    modalities : DataFrame
        Studies that have each modality.
    observations : DataFrame
        Studies that have each analyte, age and sex.
    remarks : dict of str to int
        What training goes on with, and how often: views unknown, blank images, implausible values.
    problems : tuple of str
        What should be mended.
    """

    cohort: Cohort
    counts: dict[str, int]
    labels: pd.DataFrame
    modalities: pd.DataFrame
    observations: pd.DataFrame
    remarks: dict[str, int]
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        tables = {"labels": self.labels, "modalities": self.modalities, "observations": self.observations}
        return {
            "name": self.cohort.name,
            "task": self.cohort.task,
            "digest": self.cohort.digest,
            "counts": self.counts,
            **{name: table.to_dict("records") for name, table in tables.items()},
            "remarks": self.remarks,
            "problems": list(self.problems),
        }

    def terminal_tables(self) -> list[RenderableType]:
        """What the terminal shows."""
        name = f"{self.cohort.name}, {self.cohort.task}" if self.cohort.task else self.cohort.name
        shown: list[RenderableType] = [
            f"{name}: " + ", ".join(f"{count} {what}" for what, count in self.counts.items()),
            _table("Labels", self.labels),
            _table("Studies with each modality", self.modalities),
            _table("Studies with each value", self.observations),
        ]
        if self.remarks:
            shown.append(_table("To know", pd.DataFrame(list(self.remarks.items()), columns=["what", "times"])))
        shown += [Text(f"problem: {problem}", style="red") for problem in self.problems[:_MOST_PROBLEMS]]
        if len(self.problems) > _MOST_PROBLEMS:
            shown.append(f"and {len(self.problems) - _MOST_PROBLEMS} more; --json lists all")
        shown.append(f"{len(self.problems)} problem(s)" if self.problems else "no problems")
        return shown


def check_cohort(cohort: Cohort, progress: Callable[[int], None] | None = None) -> CohortReport:
    """Decode every image of `cohort` and count what it holds.

    Parameters
    ----------
    cohort : Cohort
    progress : callable, optional
        Called with the number of images seen so far.
    """
    remarks: Counter[str] = Counter()
    problems: list[str] = []
    usable: Counter[str] = Counter()
    owners: dict[str, set[str]] = defaultdict(set)
    for record, outcomes in _decoded(cohort, progress or (lambda _: None)):
        images = []
        for file, outcome in zip(record.images, outcomes, strict=True):
            if isinstance(outcome, InputError):
                problems.append(f"{file.path.relative_to(cohort.root).as_posix()}: {outcome.rule}")
                continue
            images.append(outcome)
            owners[outcome.digest].add(record.patient_id)
            remarks["images of unknown view"] += (file.view or outcome.view) is ViewPosition.UNKNOWN
        usable[record.study_id] = len(images)
        problems += _contradictions(record, images)
    shared = sum(len(patients) > 1 for patients in owners.values())
    if shared:
        problems.append(f"{shared} image file(s) stand in studies of several patients")
    remarks["implausible values, not read"] = sum(o.implausible for r in cohort.records for o in r.observations)
    for record in cohort.records:
        remarks.update(record.warnings)
    return CohortReport(
        cohort=cohort,
        counts=_counts(cohort, sum(usable.values())),
        labels=_labels(cohort),
        modalities=_modalities(cohort, usable),
        observations=_observations(cohort),
        remarks={what: times for what, times in remarks.most_common() if times},
        problems=(*problems, *_split_problems(cohort)),
    )


def _decoded(cohort: Cohort, progress: Callable[[int], None]) -> Iterator[tuple[StudyRecord, list[Image | InputError]]]:
    """Each record with its images, whose pixels are put away as soon as they were looked at."""
    files = [image.path for record in cohort.records for image in record.images]
    done = 0
    if not files:
        yield from ((record, []) for record in cohort.records)
        return
    with DecodePool() as pool:
        outcomes = pool.map(files)
        for record in cohort.records:
            own: list[Image | InputError] = []
            for _ in record.images:
                own.append(_looked_at(next(outcomes)))
                done += 1
                progress(done)
            yield record, own


def _looked_at(outcome: Image | InputError) -> Image | InputError:
    if isinstance(outcome, InputError):
        return outcome
    if outcome.pixels.min() == outcome.pixels.max():
        return InputError("pixels", "one value", "must show something, the image is blank")
    return replace(outcome, pixels=np.zeros((1, 1), np.uint16))


def _contradictions(record: StudyRecord, images: list[Image]) -> list[str]:
    try:
        record.study(images)
    except InputError as error:
        return [f"study {record.study_id}: {error}"]
    return []


def _counts(cohort: Cohort, images: int) -> dict[str, int]:
    return {
        "studies": len(cohort),
        "patients": len(set(cohort.patient_ids.tolist())),
        "images": images,
        "notes": sum(len(record.notes) for record in cohort.records),
        "observations": sum(len(record.observations) for record in cohort.records),
    }


def _labels(cohort: Cohort) -> pd.DataFrame:
    splits = np.array([record.split or _UNSPLIT for record in cohort.records])
    lines = []
    for f, finding in enumerate(cohort.findings):
        for split in dict.fromkeys(splits.tolist()):
            own = cohort.labels[splits == split, f]
            counts = {"present": int((own == 1).sum()), "absent": int((own == 0).sum())}
            lines.append({"finding": finding.name, "split": split, **counts, "unknown": int(np.isnan(own).sum())})
    return pd.DataFrame(lines)


def _modalities(cohort: Cohort, usable: Counter[str]) -> pd.DataFrame:
    studies: Counter[str] = Counter()
    for record in cohort.records:
        studies[Modality.IMAGE.value] += usable[record.study_id] > 0
        studies.update({f"{Modality.TEXT.value}, {note.kind.value}" for note in record.notes})
        studies[Modality.OBSERVATIONS.value] += any(not o.implausible for o in record.observations)
    return _shares(dict(sorted(studies.items())), "modality", len(cohort))


def _observations(cohort: Cohort) -> pd.DataFrame:
    studies: Counter[str] = Counter()
    for record in cohort.records:
        studies["age"] += record.patient.age is not None
        studies["sex"] += record.patient.sex.value in ("F", "M")
        studies.update({ANALYTES[o.analyte].display for o in record.observations if not o.implausible})
    return _shares(dict(studies.most_common()), "value", len(cohort))


def _shares(counts: dict[str, int], what: str, studies: int) -> pd.DataFrame:
    return pd.DataFrame([{what: name, "studies": count, "share": count / studies} for name, count in counts.items()])


def _split_problems(cohort: Cohort) -> list[str]:
    """Whether it can be split as recipes do by default, or as it says itself."""
    try:
        split_cohort(cohort, SplitRecipe().model_dump(), seed=0)
    except TrainingError as error:
        return [str(error)]
    return []


def _table(title: str, frame: pd.DataFrame) -> Table:
    table = Table(*frame.columns, title=title, title_justify="left")
    for line in frame.to_dict("records"):
        table.add_row(*(f"{cell:.3f}" if isinstance(cell, float) else escape(str(cell)) for cell in line.values()))
    return table
