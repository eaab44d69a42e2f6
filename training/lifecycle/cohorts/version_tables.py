"""Cohort folders of the kind ``manifest`` as rows that can be put together, and written as a version.

A cell that names files of its folder is told by that: each of its parts, joined by ``;``, or what stands behind its
``@``, is a file inside the folder. In a version these are ``files/AB/SHA-256.ext``. Whether the version then reads as
its sources did is not taken for granted, but read and compared (`training.lifecycle.cohorts.cohort_store`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from consilium.domain.errors import InputError
from consilium.domain.study import RecordFile, instant_text
from consilium.modalities.registry import file_content, file_inputs
from consilium.system.durable import sync
from training.cohorts.cells import entries, path_rule
from training.cohorts.cohort import Cohort, StudyRecord
from training.cohorts.column_reader import OWN_COLUMNS, STUDIES, reader_classes
from training.cohorts.manifest import read_manifest
from training.cohorts.manifest_description import DESCRIPTION
from training.cohorts.manifest_schema import LABEL
from training.cohorts.tables import read_table
from training.cohorts.versions.version_record import CohortVersion, read_version

FILES = "files"
_SUFFIX = re.compile(r"(\.[a-z0-9]{1,8}){1,2}")
_SAME = ("exclusive", "time_zone", "variables", "findings")
"""Of ``cohort.yaml``: what all sources of a version must agree in."""


Others = Mapping[str, Sequence[Mapping[str, str]]]
"""Rows of one study in the tables beside ``studies.csv``, by the table's file name."""


@dataclass(frozen=True, slots=True, eq=False)
class Folder:
    """A cohort folder: what it reads as, its rows as text, and where each file lies that they name.

    Attributes
    ----------
    rows : mapping of str to mapping of str to str
        Of each study, the cells that are not empty, with files as a version names them.
    others : mapping of str to mapping of str to list of mapping
        Of each study and other table of a modality, its rows.
    files : mapping of str to Path
        By the name within a version.
    version : CohortVersion or None
        None: the folder is no version.
    """

    cohort: Cohort
    rows: Mapping[str, Mapping[str, str]]
    others: Mapping[str, Others]
    description: Mapping[str, Any]
    files: Mapping[str, Path]
    version: CohortVersion | None

    @property
    def labels(self) -> list[str]:
        """Names of the findings."""
        return list(self.cohort.findings.names)

    @property
    def records(self) -> dict[str, StudyRecord]:
        return {record.study_id: record for record in self.cohort.records}


def read_folder(root: Path) -> Folder:
    """The cohort in the folder `root`, whose every file is read once for its digest.

    Raises
    ------
    CohortError
        With every problem of the folder.
    InputError
        Where a study names a file that brings others with it: they would be left behind.
    """
    cohort = read_manifest(root)
    for file in (file for record in cohort.records for file in record.every_file):
        if file_inputs()[file.field].pack and _brings_others(file):
            rule = "must be one file in a version of a cohort: a zip archive of it and of the files that it names"
            raise InputError(file.field, file.path.relative_to(root).as_posix(), rule)
    files: dict[str, Path] = {}

    def renamed(row: Mapping[Any, Any]) -> dict[str, str]:
        return {str(name): _renamed(str(name), str(cell), root, files) for name, cell in row.items() if cell != ""}

    rows = {row["study"]: row for row in map(renamed, read_table(root / STUDIES).to_dict("records"))}
    others: dict[str, dict[str, list[Mapping[str, str]]]] = {study: {} for study in rows}
    for name in (name for reader in reader_classes().values() for name in reader.other_tables):
        if (root / name).exists():
            for row in map(renamed, read_table(root / name).to_dict("records")):
                others[row["study"]].setdefault(name, []).append(row)
    return Folder(cohort, rows, others, _description(root, cohort), files, read_version(root))


def _brings_others(file: RecordFile) -> bool:
    """Whether more is read than the file itself; one that cannot be read whole is refused where it is read."""
    try:
        return file_content(file.field, file.path) != file.path.read_bytes()
    except FileNotFoundError:
        return True
    except (InputError, OSError):
        return False


def _description(root: Path, cohort: Cohort) -> dict[str, Any]:
    """``cohort.yaml``, with a name and findings whether or not they stand there."""
    path = root / DESCRIPTION
    found = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
    findings = [
        {key: value for key, value in one.items() if key in ("name", "display", "code") and value is not None}
        for one in ({"name": f.name, "display": f.display, "code": f.code} for f in cohort.findings)
    ]
    return {"exclusive": cohort.findings.exclusive, **(found or {}), "name": cohort.name, "findings": findings}


def _renamed(column: str, cell: str, root: Path, files: dict[str, Path]) -> str:
    """`cell` with the files that it names as a version names them; these go into `files`."""
    if column in OWN_COLUMNS or column.startswith(LABEL):
        return cell
    referring = cell.startswith("@") and not cell.startswith("@@")
    named = [cell[1:].strip()] if referring else entries(cell)
    if not named or any(len(path) > 1024 or path_rule(root, path) is not None for path in named):
        return cell
    renamed = []
    for path in named:
        name = _content_name(root / path)
        files[name] = root / path
        renamed.append(name)
    return f"@{renamed[0]}" if referring else ";".join(renamed)


def _content_name(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    suffix = "".join(path.suffixes[-2:]).lower() if path.name.lower().endswith(".nii.gz") else path.suffix.lower()
    return f"{FILES}/{digest[:2]}/{digest}{suffix if _SUFFIX.fullmatch(suffix) else ''}"


def content_digest(name: str) -> str:
    """SHA-256 in the name that a version gives a file."""
    return Path(name).name.partition(".")[0]


def named_files(row: Mapping[str, str]) -> set[str]:
    """The names of a version's files in the cells of `row`."""
    prefix = re.compile(rf"{FILES}/[0-9a-f]{{2}}/[0-9a-f]{{64}}(?:\.[a-z0-9.]+)?")
    cells = (cell.removeprefix("@") for name, cell in row.items() if name not in OWN_COLUMNS)
    return {part for cell in cells for part in cell.split(";") if prefix.fullmatch(part)}


def files_of(row: Mapping[str, str], others: Others) -> set[str]:
    """`named_files` of a study in all tables."""
    return named_files(row).union(*(named_files(line) for lines in others.values() for line in lines))


def study_content(record: StudyRecord, files: Iterable[str]) -> str:
    """Digest of all that a study holds but its labels, its split, and where and when it is said to be from.

    Parameters
    ----------
    files : iterable of str
        `files_of` it.
    """
    line = [
        record.patient_id,
        sorted(content_digest(name) for name in files),
        [
            (name, [(one.digest, instant_text(one.time)) for one in of])
            for name, of in sorted(record.parts.items())
            if of
        ],
        [record.patient.age, record.patient.sex.value, instant_text(record.reference_time)],
    ]
    return hashlib.sha256(json.dumps(line).encode()).hexdigest()


def known_labels(record: StudyRecord, findings: Iterable[str]) -> dict[str, str]:
    """Labels that are known, as cells: 1 or 0."""
    pairs = zip(findings, record.labels, strict=True)
    return {f"{LABEL}{name}": str(int(label)) for name, label in pairs if not np.isnan(label)}


def require_same_description(first: Folder, other: Folder) -> None:
    """`InputError` where `other` has other findings, variables or another time zone than `first`."""
    for key in _SAME:
        one, two = first.description.get(key), other.description.get(key)
        if key == "findings":  # displays and codes of the first version stand
            one, two = first.labels, other.labels
            lacking = [name for name in two if name not in one]
            if lacking:
                rule = f"must be among the cohort's findings: {', '.join(one)}; another set is another cohort"
                raise InputError("cohort.findings", ", ".join(lacking), rule)
        elif two is not None and (one or None) != (two or None):
            raise InputError(f"cohort.{key}", two, f"must be as in the versions so far: {one!r}")


def write_folder(
    folder: Path,
    description: Mapping[str, Any],
    rows: Sequence[Mapping[str, str]],
    others: Mapping[str, Others],
    changes: Sequence[Mapping[str, str]],
    files: Mapping[str, Path],
    ours: Path,
) -> dict[str, str]:
    """Write a version's tables and files into the empty `folder`; the SHA-256 of each table.

    A file that lies below `ours`, in a version before this one, is linked; any other is copied, so that nobody can
    change it from outside.
    """
    findings = [f"{LABEL}{one['name']}" for one in description["findings"]]
    columns = list(dict.fromkeys([*(name for row in rows for name in row), *findings, "split"]))
    _table(folder / STUDIES, rows, columns)
    for name in dict.fromkeys(name for row in rows for name in others[row["study"]]):
        own = [line for row in rows for line in others[row["study"]].get(name, ())]
        _table(folder / name, own, list(dict.fromkeys(column for line in own for column in line)))
    _table(folder / CHANGES, changes, ["study", "change", "why"])
    (folder / DESCRIPTION).write_text(yaml.safe_dump(dict(description), sort_keys=False, allow_unicode=True), "utf-8")
    for name in sorted({name for row in rows for name in files_of(row, others[row["study"]])}):
        _place(files[name], folder / name, linked=files[name].is_relative_to(ours))
    tables = [path for path in sorted(folder.iterdir()) if path.is_file()]
    for path in tables:
        path.chmod(0o440)
        sync(path)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tables}


CHANGES = "changes.csv"


def _table(path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> None:
    pd.DataFrame([{name: row.get(name, "") for name in columns} for row in rows], columns=list(columns)).to_csv(
        path, index=False
    )


def _place(source: Path, target: Path, *, linked: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if linked:
        with suppress(OSError):  # a file system without links
            os.link(source, target)
            return
    shutil.copyfile(source, target)
    target.chmod(0o440)
    sync(target)
