"""Studies of a DICOMweb archive: named while a scoring is planned, fetched by whoever scores them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import numpy as np

from consilium.domain.errors import InputError
from consilium.domain.study import RecordFile
from consilium.ingest.dicomweb import DicomWeb, FoundInstance, InstanceUnavailable
from consilium.modalities.registry import file_inputs, modality_of
from consilium.system.environment import Variable
from training.cohorts.cohort import StudyRecord

_DICOM = "application/dicom"
FETCHED = "_fetched"
"""Folder beside the table where fetched files are while they are read; readers of Parquet folders pass over it."""


@dataclass(frozen=True, slots=True)
class Unfetched:
    """A study whose files cannot be had, and why."""

    study_id: str
    reason: InputError


@dataclass(frozen=True, slots=True)
class RemoteStudies:
    """The archive that studies are fetched from; what it is asked with stands in ``CONSILIUM_DICOMWEB_TOKEN``."""

    url: str

    def list(self, matching: Mapping[str, str], advance: Callable[[], None]) -> list[StudyRecord]:
        """A record, still without files, for each study that matches, in the order of their UIDs.

        Raises
        ------
        InputError
            Where nothing matches.
        DicomWebError
        """
        uids = []
        with self._client() as archive:
            for uid in archive.studies(matching):
                uids.append(uid)
                advance()
        if not uids:
            raise InputError("source", self.url, "must be a DICOMweb archive in which a study matches")
        return [StudyRecord(uid, uid, np.zeros(0, np.float32)) for uid in sorted(uids)]

    def fetch(self, records: Sequence[StudyRecord], folder: Path) -> Iterator[StudyRecord | Unfetched]:
        """Each of `records` with the files that may hold its images, which are written into `folder`.

        Raises
        ------
        DicomWebError
            Where the archive cannot be asked; what is wrong with one study is in its place.
        """
        with self._client() as archive:
            for number, record in enumerate(records):
                try:
                    paths = tuple(_written(archive, record.study_id, folder / str(number)))
                except (InstanceUnavailable, InputError) as error:
                    reason = error if isinstance(error, InputError) else InputError("study", "unavailable", str(error))
                    yield Unfetched(record.study_id, reason)
                else:
                    field = dicom_input()
                    files = tuple(RecordFile(field, path) for path in paths)
                    yield replace(record, files={modality_of(field).name: files})

    def _client(self) -> DicomWeb:
        return DicomWeb(self.url, os.environ.get(Variable.DICOMWEB_TOKEN) or None)


def _written(archive: DicomWeb, study: str, folder: Path) -> Iterator[Path]:
    found = [one for one in archive.instances(study) if one.may_hold_image]
    _require_few(found)
    folder.mkdir()
    for number, one in enumerate(found):
        path = folder / f"{number}.dcm"
        path.write_bytes(archive.retrieve(one))
        yield path


def _require_few(found: Sequence[FoundInstance]) -> None:
    """Before they are fetched."""
    field = dicom_input()
    if len(found) > (most := file_inputs()[field].most.most):
        raise InputError(field, len(found), f"must be at most {most} in one study")


def dicom_input() -> str:
    """Under which name DICOM files are read."""
    return next(name for name, given in file_inputs().items() if _DICOM in given.media_types)


def require_address(url: str) -> str:
    """`url` without the slash at its end.

    Raises
    ------
    InputError
        Where it is no address of a server, or holds a password.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        raise InputError("source", url, "must be a folder, or the URL of a DICOMweb archive") from None
    if not parsed.host or parsed.query or parsed.fragment:
        raise InputError("source", url, "must be the URL of a DICOMweb archive, without a query")
    if parsed.userinfo:
        raise InputError("source", parsed.host, f"must not hold a password; {Variable.DICOMWEB_TOKEN} holds a token")
    return url.rstrip("/")


def remote_digest(url: str, records: Sequence[StudyRecord]) -> str:
    """SHA-256 over the archive and its studies."""
    return hashlib.sha256(json.dumps([url, *(record.study_id for record in records)]).encode()).hexdigest()
