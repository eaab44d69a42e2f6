"""Cohort: the studies that a model is trained and evaluated on, with their labels.

A cohort is an index. Large records stay on disk until they are read once into the cache; small ones and the labels are
held in memory. Every cohort file in this folder ends in one `Cohort`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from consilium.configuration.modality_sections import Scope
from consilium.domain.errors import CohortError, InputError, Problem
from consilium.domain.findings import FindingSet
from consilium.domain.study import ByModality, Patient, Record, RecordFile, Study, instant_text
from consilium.domain.targets import Target
from consilium.domain.variable_records import own_variables, variables_to_json
from consilium.domain.variables import BUILT_IN, VariableTable
from consilium.formats.time_zone import TimeZone, site_zone
from consilium.ingest.study_records import in_zone
from consilium.modalities.registry import in_order
from training.cohorts.tables import unreadable

SPLITS = ("train", "validation", "calibration", "test")


class Outcome(NamedTuple):
    """What became of a study for one target."""

    value: float
    """Position of the grade; or the time, in the target's unit, of the event or of the end of what is known."""
    observed: bool = True
    """Exactly this; otherwise at least this (right-censored)."""


@dataclass(frozen=True, slots=True, eq=False)
class StudyRecord:
    """One study of a cohort, before its files are read.

    Attributes
    ----------
    labels : float32 [F]
        1 present, 0 absent, NaN unknown, in the order of the cohort's findings.
    files : mapping of str to tuple of RecordFile
        What is read later, of each modality.
    parts : mapping of str to tuple of Record
        The records of each modality that are in memory.
    split : str or None
        One of `SPLITS` where the cohort fixes it.
    source, date : str or None
        Where and when the record was made; for the audit, never shown to a model.
    outcomes : tuple of Outcome or None
        Of each of the cohort's targets; None: not known.
    zone : TimeZone
        In which the times of files are meant that state no offset.
    """

    study_id: str
    patient_id: str
    labels: npt.NDArray[np.float32]
    files: Mapping[str, tuple[RecordFile, ...]] = dataclass_field(default_factory=dict)
    parts: Mapping[str, tuple[Any, ...]] = dataclass_field(default_factory=dict)
    patient: Patient = dataclass_field(default_factory=Patient)
    reference_time: datetime | None = None
    split: str | None = None
    source: str | None = None
    date: str | None = None
    warnings: tuple[str, ...] = ()
    zone: TimeZone = dataclass_field(default_factory=site_zone)
    outcomes: tuple[Outcome | None, ...] = ()

    def __post_init__(self) -> None:
        for name in ("files", "parts"):
            object.__setattr__(self, name, ByModality(getattr(self, name)))

    @property
    def every_file(self) -> tuple[RecordFile, ...]:
        """The files of all modalities, one after the other."""
        return tuple(file for name in in_order(self.files) for file in self.files[name])

    def study(self, read: Mapping[str, Sequence[Record]] = MappingProxyType({})) -> Study:
        """The Study with what was `read` of this record's files, by modality."""
        own = {name: (*self.parts[name], *read.get(name, ())) for name in in_order({*self.parts, *read})}
        parts, doubts = in_zone(own, self.zone)
        return Study(
            parts,
            patient=self.patient,
            reference_time=self.reference_time,
            study_id=self.study_id,
            patient_id=self.patient_id,
            warnings=(*self.warnings, *doubts),
        )

    def readable(self, scope: Scope) -> Study:
        """The study as a model would see it that reads `scope`, without what is read of files."""
        return scope.study(self.study())


@dataclass(frozen=True, slots=True)
class Prompts:
    """Sentences about one finding: those that hold where it is present, and those where it is absent."""

    present: tuple[str, ...]
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """Studies with labels for one task.

    Attributes
    ----------
    name : str
        ``phantom``, ``covid-chestxray``, or the manifest folder's name.
    task : str
        What the labels mean, where a cohort has several tasks: ``severity``. Empty otherwise.
    root : Path
        Folder the cohort was read from. Never logged nor stored with a model.
    digest : str
        SHA-256 over tables and labels: the same cohort and task give the same digest.
    variables : VariableTable
        What was observed: the built-in variables and the cohort's own.
    prompts : mapping of finding's name to Prompts
        What pretrained encoders are asked with; no part of the digest, since nothing learns from them.
    """

    name: str
    findings: FindingSet
    records: tuple[StudyRecord, ...]
    root: Path
    digest: str
    task: str = ""
    variables: VariableTable = BUILT_IN
    prompts: Mapping[str, Prompts] = dataclass_field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def labels(self) -> npt.NDArray[np.float32]:
        """Labels of all records, float32 [N, F], NaN unknown."""
        return np.stack([record.labels for record in self.records])

    @property
    def patient_ids(self) -> npt.NDArray[np.str_]:
        """Patient pseudonym of each record, [N]."""
        return np.array([record.patient_id for record in self.records])

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source that a record names, in alphabetical order."""
        return tuple(sorted({record.source for record in self.records if record.source}))

    @property
    def outcomes(self) -> npt.NDArray[np.float64]:
        """Value of each record and target, and 1 where it was observed, float64 [N, G, 2]; NaN unknown."""
        rows = [[one or (np.nan, np.nan) for one in record.outcomes] for record in self.records]
        return np.array(rows, np.float64).reshape(len(self.records), len(self.findings.targets), 2)

    def answering(self, targets: tuple[Target, ...]) -> Cohort:
        """The same for a model of `targets`, whose outcomes are unknown where the cohort does not have them.

        Raises
        ------
        InputError
            Where the cohort means something else by the name of one.
        """
        own = {target.name: position for position, target in enumerate(self.findings.targets)}
        for target in targets:
            if target.name in own and self.findings.targets[own[target.name]] != target:
                raise InputError("cohort.targets", target.name, f"must be the model's {target}")
        places = [own.get(target.name) for target in targets]
        records = tuple(
            replace(record, outcomes=tuple(None if place is None else record.outcomes[place] for place in places))
            for record in self.records
        )
        return replace(self, findings=replace(self.findings, targets=targets), records=records)


def cohort_digest(
    name: str,
    task: str,
    findings: FindingSet,
    records: Sequence[StudyRecord],
    root: Path,
    variables: VariableTable = BUILT_IN,
) -> str:
    """SHA-256 over everything of a cohort that a model may learn from, in the order of the records.

    The bytes of files enter by relative path and size; their own digests are in the cache.

    Raises
    ------
    CohortError
        Where a file has gone since its table was read.
    """
    digest = hashlib.sha256(json.dumps([name, task, findings.to_json()]).encode())
    if own_variables(variables):
        digest.update(json.dumps(variables_to_json(variables)).encode())
    for record in records:
        line = [
            record.study_id,
            record.patient_id,
            [None if np.isnan(label) else float(label) for label in record.labels],
            [_name_and_size(file.path, root) for file in record.every_file],
            [
                (name, [(one.digest, instant_text(one.time)) for one in records])
                for name, records in sorted(record.parts.items())
                if records
            ],
            [record.patient.age, record.patient.sex.value, instant_text(record.reference_time), record.split],
            *([record.outcomes] if record.outcomes else []),
        ]
        digest.update(json.dumps(line).encode())
    return digest.hexdigest()


def _name_and_size(path: Path, root: Path) -> tuple[str, int]:
    name = path.relative_to(root).as_posix()
    try:
        return name, path.stat().st_size
    except OSError as error:
        raise CohortError([Problem(name, None, "file", name, unreadable(error))]) from None
