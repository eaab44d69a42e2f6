"""The general cohort: a folder with ``studies.csv``, perhaps ``observations.csv`` and ``cohort.yaml``, and their files.

Every problem of every table ends in one `CohortError`, each with its spreadsheet row, so that a folder is corrected in
one go. Notes are masked (`consilium.masking`), and ages above 89 become 90, on the way in. The folder ``truth/``,
where a phantom keeps what nobody may see, is never read.

``studies.csv``, one row a study:

- ``study`` (unique) and ``patient``: pseudonyms of letters, digits, ``.``, ``_`` and ``-``; a patient groups studies.
- ``age`` (years, or such as ``18 months``, ``90+``), ``sex`` (F, M, O, U, female, male, ...), ``reference_time`` (ISO
  8601, with or without an offset from UTC): optional.
- ``names``: the patient's names and identifiers joined by ``;``, plain or as DICOM writes them, which are taken out of
  the notes with those in the headers of the images; never kept, shown or trained on.
- ``images``: relative paths joined by ``;``; ``views``: a view position for each, where the files do not say.
- ``note_history``, ``note_indication``, ``note_findings``, ``note_impression``: the text itself, or
  ``@relative/path.txt``; a text that itself begins with ``@`` is written with ``@@``. Each with an optional
  ``note_<kind>_time``.
- ``label:<finding>``: 1, 0 or empty for unknown.
- columns that other modalities declare (`consilium.modalities.modality.Modality.columns`).
- ``split``: train, validation, calibration or test for all rows, or for none.
- ``source``, ``date``: for the audit, never shown to a model.
- ``value:<name>``: a value of that variable, in the unit that it is kept in; optional ``value:<name>_time``.

``observations.csv``, one row a value: ``study``, ``code`` (LOINC or the cohort's own), ``value`` (a number, a limit
such as ``<0.3``, or a category such as ``trace``), ``unit`` (UCUM, or as laboratories write it), and optionally
``time`` and ``comparator`` (``<``, ``<=``, ``>=``, ``>``, where the value is a limit without it).

``cohort.yaml``: ``name``, ``exclusive``, ``time_zone`` (the IANA name of the zone in which times without an offset are
meant, in tables and image files), ``findings`` (each ``name``, ``display``, ``code``; without them they are the label
columns, independent of each other), ``variables`` of the cohort's own (`training.cohorts.manifest_variables`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.domain.encoded_text import decode_text
from consilium.domain.errors import CohortError, InputError, Problem, UnsupportedMedia
from consilium.domain.findings import Finding, FindingSet
from consilium.domain.study import Patient, Record
from consilium.formats.demographics import read_age, read_sex
from consilium.formats.time_zone import TimeZone, site_zone
from consilium.formats.times import read_time
from consilium.ingest.deidentify import names_in_dicom
from consilium.masking import mask_text
from consilium.modalities.image.image_record import ViewPosition
from consilium.modalities.modality import ReadingContext
from consilium.modalities.registry import any_record, default_context, modalities
from consilium.modalities.text.note import Note
from consilium.modalities.text.records import read_notes
from consilium.system.installed import load
from training.cohorts.cohort import Cohort, ImageFile, StudyRecord, cohort_digest
from training.cohorts.cohort_kind import CohortKind, CohortOptions
from training.cohorts.manifest_description import (
    DESCRIPTION,
    Description,
    FindingEntry,
    described_zone,
    read_description,
)
from training.cohorts.manifest_observations import (
    Measured,
    given_observations,
    measured,
    observed_studies,
    value_problems,
)
from training.cohorts.manifest_schema import (
    LABEL,
    NOTE_COLUMNS,
    OBSERVATIONS,
    STUDIES,
    TRUE,
    declared_columns,
    is_time,
    named_file,
    observation_problems,
    parts,
    path_rule,
    study_problems,
)
from training.cohorts.manifest_variables import VALUE
from training.cohorts.tables import read_ragged_table, unreadable

_HEAD_BYTES = 1 << 20
"""Names stand at the beginning of a file, long before its pixels."""

Written = tuple[tuple[Note, ...], tuple[str, ...]]
Declared = tuple[dict[str, tuple[Record, ...]], tuple[str, ...]]


def _read_kind(root: Path, _: CohortOptions, mask_notes: bool) -> Cohort:
    return read_manifest(root, mask_notes=mask_notes)


KIND = CohortKind(name="manifest", read=f"{__name__}:_read_kind", recognises=lambda root: (root / STUDIES).is_file())


def read_manifest(root: Path, zone: TimeZone | None = None, *, mask_notes: bool = True) -> Cohort:
    """Read the cohort folder `root`; its notes without names, dates and identifiers, unless `mask_notes` is false.

    Parameters
    ----------
    zone : TimeZone or None
        In which times without an offset are meant where ``cohort.yaml`` names none; the site's unless given.

    Raises
    ------
    CohortError
        With every problem of every table.
    """
    studies, ragged = read_ragged_table(root / STUDIES)
    observations, found = _read_observations_table(root)
    ragged += found
    description, variables, problems = read_description(root)
    # Of a table of variables that could not be read, no column is known.
    problems += [p for p in study_problems(studies, root, variables) if not (problems and p.column.startswith(VALUE))]
    zone, found = described_zone(description, zone or site_zone())
    problems += found
    given = given_observations(studies, observations, variables)
    if {"study", "patient"} <= set(studies.columns):
        problems += _across_columns(studies, observed_studies(given, variables))
    findings, found = _findings(description, studies)
    problems += found
    if findings.exclusive and not found:
        problems += _not_exactly_one(studies, findings)
    notes, found = _notes(studies, root, zone, mask_notes)
    problems += found
    found = observation_problems(observations, studies.get("study", []))
    reported = {(problem.table, problem.row, problem.column) for problem in problems + found}
    unread = [p for p in value_problems(given, variables) if (p.table, p.row, p.column) not in reported]
    problems += found + unread
    observed: Measured = {}
    if not found and not unread:
        observed, found = measured(given, variables, zone)
        problems += found
    declared, found = _declared_records(studies, root, default_context(variables, zone=zone))
    problems += found
    misplaced = {(problem.table, problem.row) for problem in ragged}
    problems = ragged + [problem for problem in problems if (problem.table, problem.row) not in misplaced]
    if problems:
        raise CohortError(problems)
    records = _records(studies, _labels(studies, findings), notes, observed, declared, root, zone)
    name = description.name or root.resolve().name
    digest = cohort_digest(name, "", findings, records, root, variables)
    return Cohort(name, findings, records, root, digest, variables=variables)


def _read_observations_table(root: Path) -> tuple[pd.DataFrame, list[Problem]]:
    path = root / OBSERVATIONS
    if not path.exists():
        return pd.DataFrame(columns=["study", "code", "value", "unit"], dtype=str), []
    return read_ragged_table(path)


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


def _across_columns(studies: pd.DataFrame, observed: set[str]) -> list[Problem]:
    """Problems that show only where columns are read together."""

    def column(name: str) -> pd.Series:
        return studies[name] if name in studies else pd.Series("", index=studies.index)

    def at(rows: pd.Series, name: str, rule: str) -> list[Problem]:
        return [Problem(STUDIES, int(row) + 2, name, column(name)[row], rule) for row in studies.index[rows]]

    notes = [name for name in NOTE_COLUMNS.values() if name in studies]
    written = (studies[notes] != "").any(axis=1) if notes else column("images").map(lambda _: False)
    images, views = column("images").map(parts).map(len), column("views").map(parts).map(len)
    declared = [name for name in declared_columns() if name in studies]
    others = (studies[declared] != "").any(axis=1) if declared else column("images").map(lambda _: False)
    empty = (images == 0) & ~written & ~others & ~studies.study.isin(observed)
    problems = at(empty, "study", f"must have {any_record()} that a model may learn from")
    problems += at((views > 0) & (views != images), "views", "must be one for each image")
    for name in (*NOTE_COLUMNS.values(), *(name for name in studies.columns if name.startswith(VALUE))):
        early = (column(name) == "") & (column(f"{name}_time") != "")
        problems += at(early, f"{name}_time", f"must not stand without {name}")
    unsplit = column("split") == ""
    if unsplit.any() and not unsplit.all():
        problems += at(unsplit, "split", "must be filled for all studies or for none")
    first = column("split").groupby(studies.patient).transform("first")
    return problems + at((column("split") != first), "split", "must be the same for all studies of a patient")


def _not_exactly_one(studies: pd.DataFrame, findings: FindingSet) -> list[Problem]:
    labels = studies[[f"{LABEL}{name}" for name in findings.names]]
    positives = labels.isin(TRUE).sum(axis=1)
    wrong = (positives != 1) & (labels != "").any(axis=1)
    rule = "must name exactly one finding, or be empty: the findings exclude each other"
    return [Problem(STUDIES, int(row) + 2, f"{LABEL}*", int(positives[row]), rule) for row in studies.index[wrong]]


def _notes(studies: pd.DataFrame, root: Path, zone: TimeZone, masks: bool) -> tuple[list[Written], list[Problem]]:
    """The notes of each row; cells that name no readable file were reported before and are passed over."""
    notes: list[Written] = []
    problems: list[Problem] = []
    for number, row in enumerate(studies.to_dict("records")):
        found: list[Note] = []
        warnings: list[str] = []
        for kind, column in NOTE_COLUMNS.items():
            time = row.get(f"{column}_time", "")
            try:
                text = _note_text(row.get(column, ""), root)
                if text is not None:
                    given = {"kind": kind.value, "text": text, "time": (time if is_time(time) else "") or None}
                    read, told = read_notes([given], field=column, context=default_context(zone=zone))
                    found += read
                    warnings += told
            except InputError as error:
                problems.append(Problem(STUDIES, number + 2, column, error.value, error.rule))
        names = _known_names(row, root) if found and masks else ()
        kept = tuple(replace(note, text=mask_text(note.text, names).text) if masks else note for note in found)
        notes.append((kept, tuple(warnings)))
    return notes, problems


def _declared_records(
    studies: pd.DataFrame, root: Path, context: ReadingContext
) -> tuple[list[Declared], list[Problem]]:
    """The records that stand in columns which modalities declare, for each row."""
    found: list[Declared] = []
    problems: list[Problem] = []
    readers = {one.name: (one.columns, load(one.read_row)) for one in modalities().values() if one.columns}
    for number, row in enumerate(studies.to_dict("records")):
        others: dict[str, tuple[Record, ...]] = {}
        warnings: list[str] = []
        for name, (columns, read) in readers.items():
            try:
                records, doubts = read({column: row.get(column, "") for column in columns}, root=root, context=context)
            except InputError as error:
                problems.append(Problem(STUDIES, number + 2, error.field, error.value, error.rule))
                continue
            others[name] = tuple(records)
            warnings += doubts
        found.append((others, tuple(warnings)))
    return found, problems


def _known_names(row: Mapping[Hashable, str], root: Path) -> tuple[str, ...]:
    """What is known to name the patient of a row: told, in the headers of the images, or as an identifier."""
    readable = [root / path for path in parts(row.get("images", "")) if path_rule(root, path) is None]
    headers = [name for path in readable for name in _header_names(path)]
    return (*parts(row.get("names", "")), *headers, row.get("study", ""), row.get("patient", ""))


def _header_names(path: Path) -> tuple[str, ...]:
    """What a DICOM file's header names; nothing of other files, nor of broken ones, which are refused later."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            try:
                return names_in_dicom(head)
            except UnsupportedMedia:
                return ()
            except InputError:  # cut within an element
                return names_in_dicom(head + file.read())
    except (InputError, OSError):
        return ()


def _note_text(cell: str, root: Path) -> str | None:
    """The text of a note's cell, from the file it names where it names one; None where there is none to read."""
    relative = named_file(cell)
    if relative is None:
        return cell.removeprefix("@") or None  # of two, the first says that the second is text
    if path_rule(root, relative) is not None:
        return None
    try:
        return decode_text((root / relative).read_bytes(), "text")
    except OSError as error:
        raise InputError("text", cell, unreadable(error)) from None


def _records(
    studies: pd.DataFrame,
    labels: npt.NDArray[np.float32],
    notes: Sequence[Written],
    measured: Measured,
    declared: Sequence[Declared],
    root: Path,
    zone: TimeZone,
) -> tuple[StudyRecord, ...]:
    records = []
    for number, row in enumerate(studies.to_dict("records")):
        observations, warnings = measured.get(row["study"], ((), ()))
        images = parts(row.get("images", ""))
        named = [ViewPosition(view) for view in parts(row.get("views", ""))]
        views: Sequence[ViewPosition | None] = named or [None] * len(images)
        written, doubts = notes[number]
        others, more = declared[number]
        age, told = read_age(row.get("age"), "patient.age")
        reference, when = read_time(row.get("reference_time"), "reference_time", zone)
        records.append(
            StudyRecord(
                study_id=row["study"],
                patient_id=row["patient"],
                labels=labels[number],
                images=tuple(ImageFile(root / path, view) for path, view in zip(images, views, strict=True)),
                parts={"text": written, "observations": observations, **others},
                patient=Patient(age, read_sex(row.get("sex"), "patient.sex")).deidentified,
                reference_time=reference,
                split=row.get("split") or None,
                source=row.get("source") or None,
                date=row.get("date") or None,
                warnings=(*warnings, *doubts, *more, *told, *when),
                zone=zone,
            )
        )
    return tuple(records)


def _labels(studies: pd.DataFrame, findings: FindingSet) -> npt.NDArray[np.float32]:
    cells = studies[[f"{LABEL}{name}" for name in findings.names]]
    labels = np.where(cells == "", np.nan, cells.isin(TRUE).to_numpy(np.float32)).astype(np.float32)
    if findings.exclusive:
        # One true finding excludes the others, whether or not their cells are filled.
        labels[np.nansum(labels, axis=1) == 1] = np.nan_to_num(labels[np.nansum(labels, axis=1) == 1])
    return labels
