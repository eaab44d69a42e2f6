"""Cohort: the studies that a model is trained and judged on, with their labels.

A cohort is an index. Images stay on disk until they are decoded once into the cache; notes, observations and labels are
small and held in memory. Every cohort file in this folder ends in one `Cohort`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import CohortError, Problem
from consilium.domain.findings import FindingSet
from consilium.domain.study import Patient, Study, instant_text
from consilium.domain.variable_records import own_variables, variables_to_json
from consilium.domain.variables import BUILT_IN, VariableTable
from consilium.formats.time_zone import TimeZone, site_zone
from consilium.ingest.study_records import in_zone
from consilium.modalities.image.image_record import Image, ViewPosition
from consilium.modalities.observations.observation import Observation
from consilium.modalities.text.note import Note
from training.cohorts.tables import unreadable

SPLITS = ("train", "validation", "calibration", "test")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image on disk, with what its cohort knows of it beside the file (a PNG says nothing about itself).

    None means: take what the file says. `acquired` has an offset from UTC.
    """

    path: Path
    view: ViewPosition | None = None
    acquired: datetime | None = None


@dataclass(frozen=True, slots=True, eq=False)
class StudyRecord:
    """One study of a cohort, before its images are decoded.

    Attributes
    ----------
    labels : float32 [F]
        1 present, 0 absent, NaN unknown, in the order of the cohort's findings.
    images : tuple of ImageFile
    parts : mapping of str to tuple of Record
        The records of each other modality.
    split : str or None
        One of `SPLITS` where the cohort fixes it.
    source, date : str or None
        Where and when the record was made; for the audit, never shown to a model.
    zone : TimeZone
        In which the times of image files are meant that state no offset.
    """

    study_id: str
    patient_id: str
    labels: npt.NDArray[np.float32]
    images: tuple[ImageFile, ...] = ()
    parts: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    patient: Patient = field(default_factory=Patient)
    reference_time: datetime | None = None
    split: str | None = None
    source: str | None = None
    date: str | None = None
    warnings: tuple[str, ...] = ()
    zone: TimeZone = field(default_factory=site_zone)

    @property
    def notes(self) -> tuple[Note, ...]:
        return self.parts.get("text", ())

    @property
    def observations(self) -> tuple[Observation, ...]:
        return self.parts.get("observations", ())

    def study(self, images: Sequence[Image]) -> Study:
        """The Study, given this record's images in order."""
        parts, doubts = in_zone({"image": tuple(images), **self.parts}, self.zone)
        return Study(
            parts,
            patient=self.patient,
            reference_time=self.reference_time,
            study_id=self.study_id,
            patient_id=self.patient_id,
            warnings=(*self.warnings, *doubts),
        )


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
    """

    name: str
    findings: FindingSet
    records: tuple[StudyRecord, ...]
    root: Path
    digest: str
    task: str = ""
    variables: VariableTable = BUILT_IN

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


def cohort_digest(
    name: str,
    task: str,
    findings: FindingSet,
    records: Sequence[StudyRecord],
    root: Path,
    variables: VariableTable = BUILT_IN,
) -> str:
    """SHA-256 over everything of a cohort that a model may learn from, in the order of the records.

    Image bytes enter by relative path and size; their own digests are in the image cache.

    Raises
    ------
    CohortError
        Where an image has gone since its table was read.
    """
    digest = hashlib.sha256(json.dumps([name, task, findings.to_json()]).encode())
    if own_variables(variables):
        digest.update(json.dumps(variables_to_json(variables)).encode())
    for record in records:
        line = [
            record.study_id,
            record.patient_id,
            [None if np.isnan(label) else float(label) for label in record.labels],
            [_name_and_size(image.path, root) for image in record.images],
            [
                (name, [(one.digest, instant_text(one.time)) for one in records])
                for name, records in sorted(record.parts.items())
                if records
            ],
            [record.patient.age, record.patient.sex.value, instant_text(record.reference_time), record.split],
        ]
        digest.update(json.dumps(line).encode())
    return digest.hexdigest()


def _name_and_size(path: Path, root: Path) -> tuple[str, int]:
    name = path.relative_to(root).as_posix()
    try:
        return name, path.stat().st_size
    except OSError as error:
        raise CohortError([Problem(name, None, "file", name, unreadable(error))]) from None
