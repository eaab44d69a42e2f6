"""A store of cohort versions: a folder whose ``versions/`` holds a cohort folder each, with a record of what it is.

    STORE/versions/0003-1f0c2a9b7e55/version.json    number, digest, parent, what changed, who withdrew
                                     studies.csv …   a cohort of the kind ``manifest``, which nobody changes
                                     files/1f/1f0c…  what its tables name, by the SHA-256 of the bytes

A version that held a patient who has withdrawn is retired: its record stays, everything else of it is gone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from consilium.domain.errors import CohortError, InputError, Problem

RECORD, VERSIONS = "version.json", "versions"
_FORMAT = 1
_FOLDER = re.compile(r"(?P<number>\d{4,})-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A patient who is in no version from this one on.

    Attributes
    ----------
    patient : str
        Keyed hash of the pseudonym, with the store's key.
    files : tuple of str
        Keyed hashes of the SHA-256 of the files that were theirs alone.
    """

    patient: str
    studies: int
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortVersion:
    """What one version is.

    Attributes
    ----------
    digest : str
        SHA-256 over the version's tables, its parent's digest and who withdrew; files are named by theirs in the
        tables.
    parent : str or None
        Digest of the version that it follows.
    made, retired : str or None
        When, UTC; `retired` of a version whose studies are gone.
    why : str
    changes : mapping of str to int
        Studies that were ``added``, ``removed``, ``relabelled``, or left out: ``duplicates`` of another patient's, and
        such of patients who had ``withdrawn``.
    """

    number: int
    digest: str
    parent: str | None
    name: str
    made: str
    why: str
    studies: int
    patients: int
    splits: Mapping[str, int]
    changes: Mapping[str, int]
    withdrawn: tuple[Withdrawn, ...] = field(default=())
    retired: str | None = None

    @property
    def folder_name(self) -> str:
        return f"{self.number:04d}-{self.digest[:12]}"

    def to_json(self) -> dict[str, Any]:
        return {"format": _FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CohortVersion:
        """Read what `to_json` gave; `KeyError`, `TypeError` or `ValueError` for anything else."""
        values = dict(data)
        if values.pop("format") != _FORMAT:
            raise ValueError(f"format must be {_FORMAT}")
        gone = [Withdrawn(one["patient"], int(one["studies"]), tuple(one["files"])) for one in values.pop("withdrawn")]
        return cls(**values, withdrawn=tuple(gone))


def read_version(folder: Path) -> CohortVersion | None:
    """What the cohort folder `folder` is a version of; None where it is none.

    Raises
    ------
    CohortError
        Its record cannot be read.
    """
    try:
        text = (folder / RECORD).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise CohortError([Problem(RECORD, None, "file", RECORD, f"must be readable ({error})")]) from None
    try:
        return CohortVersion.from_json(json.loads(text))
    except (KeyError, TypeError, ValueError) as error:
        rule = f"must be the record of a cohort version ({type(error).__name__})"
        raise CohortError([Problem(RECORD, None, "file", RECORD, rule)]) from None


def version_folders(store: Path) -> list[Path]:
    """The folders of all versions in `store`, oldest first."""
    found = [path for path in (store / VERSIONS).glob("*") if _FOLDER.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.partition("-")[0]))


def chain(folder: Path) -> list[CohortVersion]:
    """The version in `folder` behind all those that it follows, oldest first; empty where it is none."""
    last = read_version(folder)
    if last is None:
        return []
    found = [read_version(path) for path in version_folders(folder.parent.parent)]
    return [version for version in found if version is not None and version.number < last.number] + [last]


def cohort_folder(path: Path) -> Path:
    """`path`, or the newest version where it is a store of versions.

    Raises
    ------
    InputError
        It is a store without a version, or a version that is retired.
    CohortError
        A record cannot be read.
    """
    if (path / VERSIONS).is_dir() and not (path / RECORD).exists():
        folders = version_folders(path)
        if not folders:
            raise InputError("cohort", str(path), "must hold a version; consilium cohort freeze makes the first")
        path = folders[-1]
    version = read_version(path)
    if version is not None and version.retired is not None:
        rule = "must be a version that is not retired: a patient of it has withdrawn; take the newest of its store"
        raise InputError("cohort", path.name, rule)
    return path
