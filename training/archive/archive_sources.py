"""What can be scored: a cohort of any kind, a folder of DICOM files, or a DICOMweb archive.

Nothing of a file but its name, size and the beginning of its header is read here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import InputError
from consilium.domain.study import RecordFile
from consilium.domain.variables import VariableTable
from consilium.ingest.dicom_index import STUDY_UID, index_file
from consilium.modalities.registry import modality_of
from training.archive.remote_studies import RemoteStudies, dicom_input, remote_digest, require_address
from training.cohorts import cohort_kinds, load_cohort
from training.cohorts.cohort import StudyRecord


@dataclass(frozen=True, slots=True, eq=False)
class Archive:
    """Studies to be scored, in a fixed order.

    Attributes
    ----------
    name : str
    digest : str
        SHA-256: the same studies give the same.
    records : sequence of StudyRecord
        Each with an id of its own.
    left_out : mapping of str to int
        How many files are in no study, by reason.
    remote : RemoteStudies or None
        Where files are fetched from, if they are not on disk.
    """

    name: str
    digest: str
    records: Sequence[StudyRecord]
    left_out: Mapping[str, int]
    remote: RemoteStudies | None = None

    def __len__(self) -> int:
        return len(self.records)


def open_archive(root: Path, recipe: Recipe, variables: VariableTable, advance: Callable[[], None]) -> Archive:
    """The studies below `root`: those of a cohort where it has the layout of one, else of the DICOM files in it.

    Parameters
    ----------
    recipe : Recipe
        Of the model: its cohort section holds what readers of a cohort kind are given.
    variables : VariableTable
        Of the model.
    advance : callable
        Called after each file of a folder of DICOM files.

    Raises
    ------
    CohortError
        With every problem of the cohort's tables.
    InputError
        Where `root` is no folder, or holds no study; where the cohort's variables contradict the model's.
    """
    if not root.is_dir():
        raise InputError("source", str(root), "must be the folder of a cohort, or one of DICOM files")
    kind = next((one for one in cohort_kinds().values() if one.recognises(root)), None)
    if kind is None:
        return dicom_folder(root, advance)
    options = recipe.cohort.options if kind.name == recipe.cohort.kind else {}
    cohort = load_cohort(kind.name, root, options, mask_notes=recipe.masks_identifiers)
    _require_same_variables(cohort.variables, variables)
    return Archive(cohort.name, cohort.digest, cohort.records, {})


def dicomweb(url: str, matching: Mapping[str, str], advance: Callable[[], None] = lambda: None) -> Archive:
    """The studies of a DICOMweb archive that match; their files are fetched when they are scored.

    Raises
    ------
    InputError
        Where `url` is no address, or nothing matches.
    DicomWebError
        Where the archive cannot be asked.
    """
    remote = RemoteStudies(require_address(url))
    records = remote.list(matching, advance)
    return Archive(remote.url, remote_digest(remote.url, records), records, {}, remote)


def dicom_folder(root: Path, advance: Callable[[], None] = lambda: None) -> Archive:
    """The DICOM files below `root`, a study for each Study Instance UID, in the order of these.

    Links are not followed. Reports and other objects that are no images are left out; a study that holds nothing else
    stays, and will be refused.

    Raises
    ------
    InputError
        Where there is no DICOM file with a Study Instance UID.
    """
    files: dict[str, list[Path]] = {}
    left_out: dict[str, int] = {}
    for path in _files(root):
        uid, reason = _indexed(path)
        if uid:
            files.setdefault(uid, [])
        if uid and not reason:
            files[uid].append(path)
        else:
            left_out[reason] = left_out.get(reason, 0) + 1
        advance()
    if not files:
        raise InputError(
            "source", str(root), f"must be a cohort, or hold DICOM files that name their study ({STUDY_UID})"
        )
    field = dicom_input()
    modality = modality_of(field).name
    records = [
        StudyRecord(uid, uid, np.zeros(0, np.float32), files={modality: tuple(RecordFile(field, p) for p in paths)})
        for uid, paths in sorted(files.items())
    ]
    return Archive(root.resolve().name, _digest(records, root), records, left_out)


def _require_same_variables(cohort: VariableTable, model: VariableTable) -> None:
    unlike = sorted(name for name in cohort if name in model and model[name] != cohort[name])
    if unlike:
        rule = "must be the variable that the model was trained with"
        raise InputError(f"cohort.variables.{unlike[0]}", unlike[0], rule)


def _files(root: Path) -> Iterator[Path]:
    """Every regular file below `root`, in a fixed order."""
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _indexed(path: Path) -> tuple[str, str]:
    """The Study Instance UID of a file, and why it is left out of that study, if it is."""
    try:
        with path.open("rb") as file:
            found = index_file(file)
    except OSError as error:
        return "", f"cannot be read ({error.strerror})"
    except InputError:
        return "", "no DICOM file, or one with a broken header"
    if not found.study_uid:
        return "", f"without {STUDY_UID}"
    return found.study_uid, "" if found.may_hold_image else f"no image: {found.kind}"


def _digest(records: Sequence[StudyRecord], root: Path) -> str:
    digest = hashlib.sha256()
    for record in records:
        files = [(one.path.relative_to(root).as_posix(), one.path.stat().st_size) for one in record.every_file]
        digest.update(json.dumps([record.study_id, files]).encode())
    return digest.hexdigest()
