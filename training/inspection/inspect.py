"""What is in a cohort: counts, labels, missingness, every file that cannot be used, and the audit's verdict."""

from __future__ import annotations

import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import RenderableType
from rich.text import Text

from consilium.configuration.modality_sections import checking_sections
from consilium.configuration.recipe import SplitRecipe
from consilium.domain.errors import InputError, TrainingError
from consilium.domain.study import Record, RecordFile, Study
from consilium.domain.targets import OrdinalTarget
from consilium.modalities.converter import Converter
from consilium.modalities.registry import find_modality, modalities
from consilium.preprocessing.collate import converters
from training.audit.report import AuditReport
from training.audit.terminal import frame_table
from training.cohorts.cohort import SPLITS, Cohort, StudyRecord
from training.cohorts.splits import split_cohort
from training.data.cached_cohort import CachedCohort, ReadFiles, read_files
from training.training_side import CheckTable, training_sides

_MOST_PROBLEMS = 50
"""More are counted, but not listed on a terminal."""
_UNSPLIT = "not fixed"
_PLACE = re.compile(r"\[\d+\]")
"""Which of a study's records a warning is about: left out, so that warnings of one kind are counted together."""
_OTHERWISE = re.compile(r" as [^,]+, (.+?) as .+")
"""The values of a contradiction between records: left out likewise."""


@dataclass(frozen=True, slots=True, eq=False)
class CohortReport:
    """What a cohort holds and what is wrong with it.

    Attributes
    ----------
    counts : dict of str to int
        Studies, patients, and the records of each modality.
    labels : DataFrame
        Present, absent and unknown, per finding and split.
    modalities : DataFrame
        Studies that have each modality.
    tables : mapping of str to CheckTable
        What each modality counts of its own, by name.
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
    tables: Mapping[str, CheckTable]
    remarks: dict[str, int]
    problems: tuple[str, ...]
    audit: AuditReport | None = None

    def to_json(self) -> dict[str, Any]:
        tables = {
            "labels": self.labels,
            "modalities": self.modalities,
            **{name: table.frame for name, table in self.tables.items()},
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
            *(frame_table(table.title, table.frame, displays) for table in self.tables.values() if len(table.frame)),
        ]
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
    """Read every file of `cohort`, count what it holds, and audit it.

    Parameters
    ----------
    cohort : Cohort
    audited : bool
        Also look for what is too good to be true (`training.audit.audit`).
    seed : int
        Of the audit.
    progress : callable, optional
        Called with the number of files read so far.
    """
    with tempfile.TemporaryDirectory(prefix="consilium-check-") as folder:
        read_by = converters(checking_sections())
        read = read_files(cohort, read_by, Path(folder), _counting(progress))
        seen = _seen(cohort, read, read_by)
        audit = _audit(cohort, read, seen, seed) if audited else None
    remarks = Counter(seen.remarks)
    for record in cohort.records:
        remarks.update(_PLACE.sub("[*]", warning) for warning in record.warnings)
    return CohortReport(
        cohort=cohort,
        counts=_counts(cohort, seen.studies),
        labels=_labels(cohort),
        modalities=_modalities(seen.studies),
        tables=_target_tables(cohort)
        | {name: table for side in training_sides() for name, table in side.check_tables(cohort, seen.studies).items()},
        remarks={what: times for what, times in remarks.most_common() if times},
        problems=(*seen.problems, *_split_problems(cohort), *_own_problems(cohort)),
        audit=audit,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What became of the files: each record's study with those that can be used, and the warnings about the rest.

    `unusable` holds the files that cannot be used, as the cohort names them, with the reason.
    """

    studies: tuple[Study, ...]
    unusable: dict[str, str]
    remarks: dict[str, int]
    problems: tuple[str, ...]


def _counting(progress: Callable[[int], None] | None) -> Callable[[], None] | None:
    """What is called after each file, of what is called with their number."""
    numbers = count(1)
    return None if progress is None else lambda: progress(next(numbers))


def _seen(cohort: Cohort, read: ReadFiles, read_by: Mapping[str, Converter]) -> _Seen:
    studies: list[Study] = []
    unusable: dict[str, str] = {}
    remarks: Counter[str] = Counter()
    problems: list[str] = []
    owners: dict[tuple[str, str], set[str]] = defaultdict(set)
    for record in cohort.records:
        usable: dict[str, list[Record]] = defaultdict(list)
        for modality, file in ((name, file) for name, files in record.files.items() for file in files):
            found, rule = _read(modality, file, read, read_by)
            if found is None:
                name = file.path.relative_to(cohort.root).as_posix()
                unusable[name] = rule
                problems.append(f"{name}: {rule}")
                continue
            usable[modality].append(found)
            owners[find_modality(modality).record, found.digest].add(record.patient_id)
        study, contradiction = _study(record, usable)
        for one in (*(one for records in usable.values() for one in records), *record.study().records):
            remarks.update(one.remarks)
        studies.append(study)
        problems += contradiction
        remarks.update(_PLACE.sub("[*]", _OTHERWISE.sub(r" otherwise than \1", one)) for one in study.contradictions)
    shared = Counter(noun for (noun, _), patients in owners.items() if len(patients) > 1)
    problems += [f"{times} {noun} file(s) stand in studies of several patients" for noun, times in shared.items()]
    return _Seen(tuple(studies), unusable, dict(remarks), tuple(problems))


def _read(
    modality: str, file: RecordFile, read: ReadFiles, read_by: Mapping[str, Converter]
) -> tuple[Record | None, str]:
    """What `file` was read as; else None, and why it cannot be used."""
    record = read.record(modality, file)
    if record is None:
        error = read.filling.refused[file.path]
        return None, f"{error.field}: {error.rule}"
    rule = read_by[modality].fault(read.caches[modality].array(record.digest))
    return (None, rule) if rule else (record, "")


def _study(record: StudyRecord, usable: Mapping[str, Sequence[Record]]) -> tuple[Study, list[str]]:
    """The record's study; without what its files hold where they contradict each other, with what they do in."""
    try:
        return record.study(usable), []
    except InputError as error:
        return record.study(), [f"study {record.study_id}: {error}"]


def _audit(cohort: Cohort, read: ReadFiles, seen: _Seen, seed: int) -> AuditReport:
    # The rest of the check needs no torch.
    from consilium.system.threads import limit_threads
    from training.audit.audit import audit_cohort

    limit_threads()
    return audit_cohort(CachedCohort(cohort, read.caches, seen.studies, seen.unusable), seed=seed)


def _counts(cohort: Cohort, seen: Sequence[Study]) -> dict[str, int]:
    """Studies, patients, and the records of each modality."""
    records = {
        f"{modality.record}s": sum(len(study.parts[name]) for study in seen) for name, modality in modalities().items()
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


def _target_tables(cohort: Cohort) -> dict[str, CheckTable]:
    """What is known of the targets beside the findings; no table where there are none."""
    lines: list[dict[str, object]] = []
    for position, target in enumerate(cohort.findings.targets):
        value, observed = cohort.outcomes[:, position].T
        counts = {"not known": int(np.isnan(value).sum())}
        if isinstance(target, OrdinalTarget):
            counts |= {grade: int((value == place).sum()) for place, grade in enumerate(target.grades)}
        else:
            counts |= {"event": int((observed == 1).sum()), "followed without it": int((observed == 0).sum())}
        lines += [{"target": target.name, "outcome": name, "studies": count} for name, count in counts.items()]
    return {"targets": CheckTable("Targets beside the findings", pd.DataFrame(lines))} if lines else {}


def _modalities(seen: Sequence[Study]) -> pd.DataFrame:
    """How many studies have usable records of each modality, by the kinds of those that have kinds."""
    studies: Counter[str] = Counter()
    for study in seen:
        for name in modalities():
            kinds = {record.kind_name for record in study.parts[name] if record.usable}
            studies.update(f"{name}, {kind}" if kind else name for kind in kinds)
    for name in modalities():
        if not any(counted.partition(",")[0] == name for counted in studies):
            studies[name] = 0
    return _shares(dict(sorted(studies.items())), "modality", len(seen))


def _own_problems(cohort: Cohort) -> list[str]:
    """Those that a modality finds."""
    return [problem for side in training_sides() for problem in side.check_problems(cohort)]


def _shares(counts: dict[str, int], what: str, studies: int) -> pd.DataFrame:
    return pd.DataFrame([{what: name, "studies": count, "share": count / studies} for name, count in counts.items()])


def _split_problems(cohort: Cohort) -> list[str]:
    """Whether it can be split as recipes do by default, or as it says itself."""
    try:
        split_cohort(cohort, SplitRecipe().model_dump(), seed=0)
    except TrainingError as error:
        return [str(error)]
    return []
