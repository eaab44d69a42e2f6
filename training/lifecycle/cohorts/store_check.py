"""Whether a store of versions is what its records say, and whether who has withdrawn is gone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from consilium.domain.errors import InputError
from training.cohorts.column_reader import STUDIES
from training.cohorts.tables import read_table
from training.cohorts.versions.version_record import RECORD, CohortVersion, read_version, version_folders
from training.lifecycle.cohorts.cohort_store import hashed_patients, keyed_hash, version_digest
from training.lifecycle.cohorts.version_tables import CHANGES, FILES, content_digest, named_files


@dataclass(frozen=True, slots=True)
class StoreReport:
    """All versions of a store, oldest first, and what is wrong with any."""

    versions: tuple[CohortVersion, ...]
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"versions": [one.to_json() for one in self.versions], "problems": list(self.problems)}

    def terminal_tables(self) -> list[Table | str]:
        table = Table("version", "digest", "made", "studies", "patients", "splits", "changes", "why")
        for one in self.versions:
            state = f"{one.number} (retired)" if one.retired else str(one.number)
            splits, changes = (", ".join(f"{n} {name}" for name, n in of.items()) for of in (one.splits, one.changes))
            cells = (one.digest[:12], one.made, str(one.studies), str(one.patients), splits, changes, one.why)
            table.add_row(state, *cells)
        gone = [(one.number, patient) for one in self.versions for patient in one.withdrawn]
        lines = [
            f"version {number}: patient {one.patient[:12]} (keyed hash) withdrew, {one.studies} studies, "
            f"{len(one.files)} files"
            for number, one in gone
        ]
        if gone and not self.problems:
            lines.append("none of them, and none of their files, is in any version")
        lines += [f"problem: {problem}" for problem in self.problems]
        return [table, *lines]


def check_store(store: Path, *, files: bool = False, advance: Callable[[], None] | None = None) -> StoreReport:
    """Read all versions of `store`, and compare each with its record.

    Parameters
    ----------
    files : bool
        Also read every file and compare it with its name.
    advance : callable or None
        Called after each file that was read.

    Raises
    ------
    InputError
        It is no store of versions.
    CohortError
        A record cannot be read.
    """
    folders = version_folders(store)
    versions = [version for path in folders if (version := read_version(path)) is not None]
    if not versions or len(versions) < len(folders):
        raise InputError("store", str(store), f"must be a folder of cohort versions, each with its {RECORD}")
    problems: list[str] = []
    parent = None
    for path, version in zip(folders, versions, strict=True):
        if version.parent != parent:
            problems.append(f"version {version.number}: must follow {parent}, and says {version.parent}")
        parent = version.digest
        problems += [f"version {version.number}: {what}" for what in _wrong(path, version, files, advance)]
    problems += _still_there(store, folders, versions)
    return StoreReport(tuple(versions), tuple(problems))


def _wrong(folder: Path, version: CohortVersion, files: bool, advance: Callable[[], None] | None) -> Iterator[str]:
    if version.retired is not None:
        left = [path.name for path in folder.iterdir() if path.name != RECORD]
        if left:
            yield f"is retired, and still holds {', '.join(sorted(left))}: the next change of the store removes it"
        return
    tables = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.is_file() and path.name != RECORD
    }
    if version_digest(tables, version.parent, version.withdrawn) != version.digest:
        yield "its tables are not those of its digest"
    named = _named(folder)
    there = {path.relative_to(folder).as_posix(): path for path in (folder / FILES).rglob("*") if path.is_file()}
    if lacking := named - there.keys():
        yield f"{len(lacking)} of its files are missing"
    if extra := there.keys() - named:
        yield f"{len(extra)} of its files are named by no study"
    for name, path in there.items() if files else ():
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != content_digest(name):
                yield f"{name} is not what it was"
        if advance is not None:
            advance()


def _named(folder: Path) -> set[str]:
    """The files that the version's tables name."""
    tables = [read_table(path) for path in folder.glob("*.csv") if path.name != CHANGES]
    rows = (row for table in tables for row in table.to_dict("records"))
    return {name for row in rows for name in named_files({str(key): str(cell) for key, cell in row.items()})}


def _still_there(store: Path, folders: list[Path], versions: list[CohortVersion]) -> Iterator[str]:
    """Who has withdrawn, and what was theirs alone, found in any version all the same."""
    patients = {one.patient for version in versions for one in version.withdrawn}
    files = {name for version in versions for one in version.withdrawn for name in one.files}
    if not patients:
        return
    for path, version in zip(folders, versions, strict=True):
        if (path / STUDIES).exists() and patients & hashed_patients(store, path):
            yield f"version {version.number}: holds a patient who has withdrawn"
        held = {keyed_hash(store, content_digest(one.name)) for one in (path / FILES).rglob("*") if one.is_file()}
        if held & files:
            yield f"version {version.number}: holds a file of a patient who has withdrawn"
