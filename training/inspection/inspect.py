"""What is in a cohort: counts, labels, missingness, every file that cannot be used, and the audit's verdict."""

from __future__ import annotations

import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import RenderableType
from rich.text import Text

from consilium.configuration.recipe import SplitRecipe
from consilium.domain.errors import InputError, TrainingError
from consilium.domain.study import Study
from consilium.domain.variable_records import own_variables
from consilium.ingest.decode_pool import DecodePool
from consilium.modalities.image.image_record import Image
from consilium.modalities.image.preparation import SquareConverter
from consilium.modalities.registry import modalities
from training.audit.report import AuditReport
from training.audit.terminal import frame_table
from training.cohorts.cohort import SPLITS, Cohort, ImageFile, StudyRecord
from training.cohorts.splits import split_cohort
from training.data.image_cache import Filling, ImageCache, as_listed
from training.inspection.inspect_variables import own_variable_table

_MOST_PROBLEMS = 50
"""More are counted, but not listed on a terminal."""
_UNSPLIT = "not fixed"
_PLACE = re.compile(r"\[\d+\]")
"""Which of a study's records a warning is about: left out, so that warnings of one kind are counted together."""
_OTHERWISE = re.compile(r" as [^,]+, (.+?) as .+")
"""The values of a contradiction between records: left out likewise."""
_SIDE = 64
"""Pixels a side of the squares that the audit looks at."""


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
        Studies that have each variable, age and sex.
    variables : DataFrame
        What was found of each variable that the cohort declares.
    remarks : dict of str to int
        What training goes on with, and how often: views unknown, blank images, implausible values.
    problems : tuple of str
        What should be mended.
    audit : AuditReport or None
        None: it was not asked for.
    """

    cohort: Cohort
    counts: dict[str, int]
    labels: pd.DataFrame
    modalities: pd.DataFrame
    observations: pd.DataFrame
    variables: pd.DataFrame
    remarks: dict[str, int]
    problems: tuple[str, ...]
    audit: AuditReport | None = None

    def to_json(self) -> dict[str, Any]:
        tables = {
            "labels": self.labels,
            "modalities": self.modalities,
            "observations": self.observations,
            "variables": self.variables,
        }
        return {
            "name": self.cohort.name,
            "task": self.cohort.task,
            "digest": self.cohort.digest,
            "counts": self.counts,
            **{name: table.to_dict("records") for name, table in tables.items()},
            "remarks": self.remarks,
            "problems": list(self.problems),
            **({} if self.audit is None else {"audit": self.audit.to_json()}),
        }

    def terminal_tables(self) -> list[RenderableType]:
        """What the terminal shows."""
        name = f"{self.cohort.name}, {self.cohort.task}" if self.cohort.task else self.cohort.name
        displays = {finding.name: finding.display for finding in self.cohort.findings}
        shown: list[RenderableType] = [
            f"{name}: " + ", ".join(f"{count} {what}" for what, count in self.counts.items()),
            frame_table("Labels", self.labels, displays),
            frame_table("Studies with each modality", self.modalities, displays),
            frame_table("Studies with each value", self.observations, displays),
        ]
        if len(self.variables):
            shown.append(frame_table("Variables of this cohort", self.variables, displays))
        if self.audit is not None:
            shown += self.audit.terminal_tables(displays)
        if self.remarks:
            remarks = pd.DataFrame(list(self.remarks.items()), columns=["what", "times"])
            shown.append(frame_table("To know", remarks, displays))
        shown += [Text(f"problem: {problem}", style="red") for problem in self.problems[:_MOST_PROBLEMS]]
        if len(self.problems) > _MOST_PROBLEMS:
            shown.append(f"and {len(self.problems) - _MOST_PROBLEMS} more; --json lists all")
        shown.append(f"{len(self.problems)} problem(s)" if self.problems else "no problems")
        return shown


def check_cohort(
    cohort: Cohort, *, audited: bool = True, seed: int = 0, progress: Callable[[int], None] | None = None
) -> CohortReport:
    """Decode every image of `cohort`, count what it holds, and audit it.

    Parameters
    ----------
    cohort : Cohort
    audited : bool
        Also look for what is too good to be true (`training.audit.audit`).
    seed : int
        Of the audit.
    progress : callable, optional
        Called with the number of images seen so far.
    """
    with tempfile.TemporaryDirectory(prefix="consilium-check-") as folder:
        cache = ImageCache(Path(folder), SquareConverter(_SIDE))
        filling = _decode(cohort, cache, progress or (lambda _: None))
        seen = _seen(cohort, cache, filling)
        audit = _audit(cohort, cache, seen, seed) if audited else None
    remarks = Counter(seen.remarks)
    for record in cohort.records:
        remarks.update(_PLACE.sub("[*]", warning) for warning in record.warnings)
    return CohortReport(
        cohort=cohort,
        counts=_counts(cohort, seen.studies),
        labels=_labels(cohort),
        modalities=_modalities(seen.studies),
        observations=_observations(cohort, seen.studies),
        variables=own_variable_table(cohort),
        remarks={what: times for what, times in remarks.most_common() if times},
        problems=(*seen.problems, *_split_problems(cohort), *_variable_problems(cohort)),
        audit=audit,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What became of the images: each record's study with those that can be used, and what is to be said of the rest.

    `unusable` holds the files that cannot be used, as the cohort names them, with the reason.
    """

    studies: tuple[Study, ...]
    unusable: dict[str, str]
    remarks: dict[str, int]
    problems: tuple[str, ...]


def _decode(cohort: Cohort, cache: ImageCache, progress: Callable[[int], None]) -> Filling:
    files = [image.path for record in cohort.records for image in record.images]
    if not files:
        return Filling({}, {})
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done)

    with DecodePool() as pool:
        return cache.fill(files, pool, advance)


def _seen(cohort: Cohort, cache: ImageCache, filling: Filling) -> _Seen:
    studies: list[Study] = []
    unusable: dict[str, str] = {}
    remarks: Counter[str] = Counter()
    problems: list[str] = []
    owners: dict[str, set[str]] = defaultdict(set)
    for record in cohort.records:
        images = []
        for file in record.images:
            name = file.path.relative_to(cohort.root).as_posix()
            rule = _rule(file, cache, filling)
            if rule:
                unusable[name] = rule
                problems.append(f"{name}: {rule}")
                continue
            images.append(as_listed(cache.image(filling.digests[file.path]), file.view, file.acquired))
            owners[images[-1].digest].add(record.patient_id)
        study, found = _study(record, images)
        for one in (*images, *study.with_parts(image=()).records):
            remarks.update(one.remarks)
        studies.append(study)
        problems += found
        remarks.update(_PLACE.sub("[*]", _OTHERWISE.sub(r" otherwise than \1", one)) for one in study.contradictions)
    shared = sum(len(patients) > 1 for patients in owners.values())
    if shared:
        problems.append(f"{shared} image file(s) stand in studies of several patients")
    return _Seen(tuple(studies), unusable, dict(remarks), tuple(problems))


def _rule(file: ImageFile, cache: ImageCache, filling: Filling) -> str:
    """Why `file` cannot be used; empty where it can."""
    if file.path in filling.refused:
        error = filling.refused[file.path]
        return f"{error.field}: {error.rule}"
    if not cache.square(filling.digests[file.path]).any():
        return "must show something, the image is blank"
    return ""


def _study(record: StudyRecord, images: list[Image]) -> tuple[Study, list[str]]:
    """The record's study; without images where these contradict each other, with what they contradict in."""
    try:
        return record.study(images), []
    except InputError as error:
        return record.study(()), [f"study {record.study_id}: {error}"]


def _audit(cohort: Cohort, cache: ImageCache, seen: _Seen, seed: int) -> AuditReport:
    # The rest of the check needs no torch.
    from consilium.system.threads import limit_threads
    from training.audit.audit import audit_cohort
    from training.data.datamodule import CachedCohort

    limit_threads()
    return audit_cohort(CachedCohort(cohort, cache, seen.studies, seen.unusable), seed=seed)


def _counts(cohort: Cohort, seen: Sequence[Study]) -> dict[str, int]:
    """Studies, patients, and the records of each modality."""
    records = {
        f"{modality.record}s": sum(len(study.parts.get(name, ())) for study in seen)
        for name, modality in modalities().items()
    }
    return {"studies": len(cohort), "patients": len(set(cohort.patient_ids.tolist())), **records}


def _labels(cohort: Cohort) -> pd.DataFrame:
    splits = np.array([record.split or _UNSPLIT for record in cohort.records])
    lines = []
    for f, finding in enumerate(cohort.findings):
        for split in sorted(set(splits.tolist()), key=(*SPLITS, _UNSPLIT).index):
            own = cohort.labels[splits == split, f]
            counts = {"present": int((own == 1).sum()), "absent": int((own == 0).sum())}
            lines.append({"finding": finding.name, "split": split, **counts, "unknown": int(np.isnan(own).sum())})
    return pd.DataFrame(lines)


def _modalities(seen: Sequence[Study]) -> pd.DataFrame:
    """How many studies have usable records of each modality, by the kinds of those that have kinds."""
    studies: Counter[str] = Counter()
    for study in seen:
        for name in modalities():
            kinds = {record.kind_name for record in study.parts.get(name, ()) if record.usable}
            studies.update(f"{name}, {kind}" if kind else name for kind in kinds)
    for name in modalities():
        if not any(counted.partition(",")[0] == name for counted in studies):
            studies[name] = 0
    return _shares(dict(sorted(studies.items())), "modality", len(seen))


def _observations(cohort: Cohort, seen: Sequence[Study]) -> pd.DataFrame:
    """How many studies have each value; age and sex may come from the images' files."""
    studies: Counter[str] = Counter()
    variables = cohort.variables
    for record, study in zip(cohort.records, seen, strict=True):
        studies["age"] += study.patient.age is not None
        studies["sex"] += study.patient.sex.value in ("F", "M")
        studies.update(list(dict.fromkeys(variables[o.variable].display for o in record.observations if o.usable)))
    return _shares(dict(studies.most_common()), "value", len(cohort))


def _variable_problems(cohort: Cohort) -> list[str]:
    seen = {o.variable for record in cohort.records for o in record.observations}
    return [
        f"variable {variable.name} is declared and stands in no study"
        for variable in own_variables(cohort.variables)
        if variable.name not in seen
    ]


def _shares(counts: dict[str, int], what: str, studies: int) -> pd.DataFrame:
    return pd.DataFrame([{what: name, "studies": count, "share": count / studies} for name, count in counts.items()])


def _split_problems(cohort: Cohort) -> list[str]:
    """Whether it can be split as recipes do by default, or as it says itself."""
    try:
        split_cohort(cohort, SplitRecipe().model_dump(), seed=0)
    except TrainingError as error:
        return [str(error)]
    return []
