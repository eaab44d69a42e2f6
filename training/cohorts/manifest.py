"""The general cohort: a folder with ``studies.csv``, perhaps ``cohort.yaml`` and other tables, and their files.

Every problem of every table ends in one `CohortError`, each with its spreadsheet row, so that a folder is corrected in
one go. Texts are masked (`consilium.masking`), and ages above 89 become 90, on the way in. The folder ``truth/``,
where a phantom keeps what nobody may see, is never read.

``studies.csv``, one row a study:

- ``study`` (unique) and ``patient``: pseudonyms of letters, digits, ``.``, ``_`` and ``-``; a patient groups studies.
- ``age`` (years, or such as ``18 months``, ``90+``), ``sex`` (F, M, O, U, female, male, ...), ``reference_time`` (ISO
  8601, with or without an offset from UTC): optional.
- ``names``: the patient's names and identifiers joined by ``;``, plain or as DICOM writes them, which are taken out of
  texts with those that files give; never kept, shown or trained on.
- ``label:<finding>``: 1, 0 or empty for unknown.
- the columns of targets beside the findings (`training.cohorts.targets`).
- ``split``: train, validation, calibration or test for all rows, or for none.
- ``source``, ``date``: for the audit, never shown to a model.
- ``influenced``: 1 where the labels were given after seeing a model's answer; they can be left out
  (``cohort.influenced: leave_out`` of a recipe).
- the columns of each modality, which its `training.cohorts.column_reader.ColumnReader` reads, with other tables that it
  may have.

``cohort.yaml``: ``name``, ``exclusive``, ``time_zone`` (the IANA name of the zone in which times without an offset are
meant, in tables and image files), ``findings`` (each ``name``, ``display``, ``code``; without them they are the label
columns, independent of each other), ``prompts`` (of a finding, sentences that say it is ``present``, and such that it
is ``absent``: what pretrained encoders are asked with), ``variables`` of the cohort's own
(`training.cohorts.manifest_variables`), ``targets`` beside the findings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.domain.errors import CohortError, InputError, Problem
from consilium.domain.findings import Finding, FindingSet
from consilium.domain.study import Patient
from consilium.formats.demographics import read_age, read_sex
from consilium.formats.time_zone import TimeZone, site_zone
from consilium.formats.times import read_time
from consilium.masking import mask_text
from consilium.modalities.registry import any_record, default_context
from training.cohorts.cells import TRUE, entries
from training.cohorts.cohort import Cohort, StudyRecord, cohort_digest
from training.cohorts.cohort_kind import CohortKind, CohortOptions
from training.cohorts.column_reader import (
    STUDIES,
    CohortTables,
    ColumnReader,
    Masking,
    StudyRecords,
    column_readers,
    reader_classes,
)
from training.cohorts.manifest_description import (
    DESCRIPTION,
    Description,
    FindingEntry,
    described_prompts,
    described_zone,
    read_description,
)
from training.cohorts.manifest_schema import LABEL, study_problems
from training.cohorts.tables import read_ragged_table
from training.cohorts.targets import read_targets, target_columns

Readers = Mapping[str, ColumnReader]


class ManifestOptions(CohortOptions):
    influenced: Literal["keep", "leave_out"] = "keep"
    """leave_out: labels that were given after seeing a model's answer are unknown."""


def _read_kind(root: Path, options: CohortOptions, mask_notes: bool) -> Cohort:
    kept = not isinstance(options, ManifestOptions) or options.influenced == "keep"
    return read_manifest(root, mask_notes=mask_notes, influenced=kept)


KIND = CohortKind(
    name="manifest",
    read=f"{__name__}:_read_kind",
    recognises=lambda root: (root / STUDIES).is_file(),
    options=ManifestOptions,
)


def read_manifest(
    root: Path, zone: TimeZone | None = None, *, mask_notes: bool = True, influenced: bool = True
) -> Cohort:
    """Read the cohort folder `root`; its notes without names, dates and identifiers, unless `mask_notes` is false.

    Parameters
    ----------
    zone : TimeZone or None
        In which times without an offset are meant where ``cohort.yaml`` names none; the site's unless given.
    influenced : bool
        False: labels of studies that are ``influenced`` are unknown.

    Raises
    ------
    CohortError
        With every problem of every table.
    """
    tables, description, ragged, problems = _read_tables(root, zone or site_zone())
    studies, readers = tables.studies, column_readers(tables)
    known = {name: own for one in readers.values() for name, own in one.columns().items()}
    problems += study_problems(studies, known | target_columns(studies))
    problems += _across_columns(tables, readers)
    findings, found = _findings(description, studies)
    problems += found
    prompts, unasked = described_prompts(description, findings)
    problems += [] if found else unasked
    findings, outcomes, found_of_targets = read_targets(description.targets, studies, findings)
    problems += found_of_targets
    if findings.exclusive and not found:
        problems += _not_exactly_one(studies, findings)
    read, found = _read_columns(readers, _masking(tables, readers) if mask_notes else lambda _, text: text)
    problems += found
    misplaced = {(problem.table, problem.row) for problem in ragged}
    problems = ragged + [problem for problem in problems if (problem.table, problem.row) not in misplaced]
    if problems:
        raise CohortError(problems)
    labels = _labels(studies, findings)
    if not influenced:
        left_out = tables.column("influenced").isin(TRUE)
        labels[left_out] = np.nan
        outcomes = [(None,) * len(own) if out else own for own, out in zip(outcomes, left_out, strict=True)]
    records = _records(tables, labels, read)
    records = tuple(replace(record, outcomes=own) for record, own in zip(records, outcomes, strict=True))
    name = description.name or root.resolve().name
    variables = tables.context.variables
    digest = cohort_digest(name, "", findings, records, root, variables)
    return Cohort(name, findings, records, root, digest, variables=variables, prompts=prompts)


def _read_tables(root: Path, zone: TimeZone) -> tuple[CohortTables, Description, list[Problem], list[Problem]]:
    """Tables and ``cohort.yaml``; the rows of another length, and what is wrong with ``cohort.yaml``."""
    studies, ragged = read_ragged_table(root / STUDIES)
    others, found = _other_tables(root)
    description, variables, problems = read_description(root)
    zone, unknown = described_zone(description, zone)
    tables = CohortTables(root, studies, others, default_context(variables, zone=zone), described=not problems)
    return tables, description, ragged + found, problems + unknown


def _other_tables(root: Path) -> tuple[dict[str, pd.DataFrame], list[Problem]]:
    """The tables beside ``studies.csv`` that modalities have and that are there."""
    tables, ragged = {}, []
    for name in (name for reader in reader_classes().values() for name in reader.other_tables):
        if (root / name).exists():
            tables[name], found = read_ragged_table(root / name)
            ragged += found
    return tables, ragged


def _findings(description: Description, studies: pd.DataFrame) -> tuple[FindingSet, list[Problem]]:
    """The findings, in the order of ``cohort.yaml``, else of the label columns; and where the two differ."""
    labelled = [name.removeprefix(LABEL) for name in studies.columns if name.startswith(LABEL)]
    entries = description.findings or [FindingEntry(name=name) for name in labelled]
    named = [entry.name for entry in entries]
    problems = [
        Problem(STUDIES, None, f"{LABEL}{name}", None, f"must be there as a column: {DESCRIPTION} names this finding")
        for name in named
        if name not in labelled
    ] + [
        Problem(STUDIES, None, f"{LABEL}{name}", name, f"must be one of the findings of {DESCRIPTION}")
        for name in labelled
        if name not in named
    ]
    try:
        findings = tuple(Finding(e.name, e.display or e.name.replace("_", " ").capitalize(), e.code) for e in entries)
        return FindingSet(findings, description.exclusive), problems
    except InputError as error:
        table = DESCRIPTION if description.findings else STUDIES
        nothing = FindingSet((Finding("unreadable", "Unreadable"),))
        return nothing, [*problems, Problem(table, None, error.field, error.value, error.rule)]


def _across_columns(tables: CohortTables, readers: Readers) -> list[Problem]:
    """Problems that show only where columns are read together."""
    if not {"study", "patient"} <= set(tables.studies.columns):
        return []
    present = np.any([reader.present() for reader in readers.values()], axis=0)
    problems = tables.problems(~present, "study", f"must have {any_record()} that a model may learn from")
    split, patient = tables.column("split"), tables.column("patient")
    unsplit = split == ""
    if unsplit.any() and not unsplit.all():
        problems += tables.problems(unsplit, "split", "must be filled for all studies or for none")
    strays = split != split.groupby(patient).transform("first")
    return problems + tables.problems(strays, "split", "must be the same for all studies of a patient")


def _not_exactly_one(studies: pd.DataFrame, findings: FindingSet) -> list[Problem]:
    labels = studies[[f"{LABEL}{name}" for name in findings.names]]
    positives = labels.isin(TRUE).sum(axis=1)
    wrong = (positives != 1) & (labels != "").any(axis=1)
    rule = "must name exactly one finding, or be empty: the findings exclude each other"
    return [Problem(STUDIES, int(row) + 2, f"{LABEL}*", int(positives[row]), rule) for row in studies.index[wrong]]


def _masking(tables: CohortTables, readers: Readers) -> Masking:
    """What takes out of a study's texts what names its patient: a column, the records, the identifiers."""

    @cache
    def names(number: int) -> tuple[str, ...]:
        row = tables.rows[number]
        given = [name for reader in readers.values() for name in reader.names(number)]
        return (*entries(row.get("names", "")), *given, row.get("study", ""), row.get("patient", ""))

    return lambda number, text: mask_text(text, names(number)).text


def _read_columns(readers: Readers, mask: Masking) -> tuple[dict[str, Sequence[StudyRecords]], list[Problem]]:
    """The records of each study by modality; of none where there is a problem."""
    read: dict[str, Sequence[StudyRecords]] = {}
    problems = []
    for name, reader in readers.items():
        read[name], found = reader.read(mask)
        problems += found
    return read, problems


def _records(
    tables: CohortTables, labels: npt.NDArray[np.float32], read: Mapping[str, Sequence[StudyRecords]]
) -> tuple[StudyRecord, ...]:
    return tuple(
        _record(row, labels[number], {name: studies[number] for name, studies in read.items()}, tables.context.zone)
        for number, row in enumerate(tables.rows)
    )


def _record(
    row: Mapping[str, str], labels: npt.NDArray[np.float32], read: Mapping[str, StudyRecords], zone: TimeZone
) -> StudyRecord:
    age, ambiguous = read_age(row.get("age"), "patient.age")
    reference, when = read_time(row.get("reference_time"), "reference_time", zone)
    warnings = [warning for own in read.values() for warning in own.warnings]
    return StudyRecord(
        study_id=row["study"],
        patient_id=row["patient"],
        labels=labels,
        files={name: own.files for name, own in read.items()},
        parts={name: own.in_memory for name, own in read.items()},
        patient=Patient(age, read_sex(row.get("sex"), "patient.sex")).deidentified,
        reference_time=reference,
        split=row.get("split") or None,
        source=row.get("source") or None,
        date=row.get("date") or None,
        warnings=(*warnings, *ambiguous, *when),
        zone=zone,
    )


def _labels(studies: pd.DataFrame, findings: FindingSet) -> npt.NDArray[np.float32]:
    cells = studies[[f"{LABEL}{name}" for name in findings.names]]
    labels = np.where(cells == "", np.nan, cells.isin(TRUE).to_numpy(np.float32)).astype(np.float32)
    if findings.exclusive:
        # One true finding excludes the others, whether or not their cells are filled.
        labels[np.nansum(labels, axis=1) == 1] = np.nan_to_num(labels[np.nansum(labels, axis=1) == 1])
    return labels
