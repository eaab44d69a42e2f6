"""Volumes in a cohort folder: paths in ``studies.csv``.

- ``volumes``: relative paths joined by ``;``: zip archives of a DICOM series, enhanced DICOM objects, NIfTI files.

What DICOM headers name is taken out of the study's notes.
"""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from consilium.domain.errors import InputError
from consilium.formats.dicom.file_structure import is_dicom
from consilium.ingest.deidentify import names_in_dicom
from training.modalities.path_columns import PathColumns

VOLUMES = "volumes"
_HEAD_BYTES = 1 << 20
"""Names stand at the beginning of a file, long before its pixels."""
_BROKEN = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
"""What `zipfile` raises of archives that are damaged."""


class VolumeColumns(PathColumns):
    """Reads the column of volumes."""

    column = files = VOLUMES

    def names_in(self, path: Path) -> Sequence[str]:
        return _names(path)


def _names(path: Path) -> Sequence[str]:
    """Names and identifiers in the first DICOM file at `path`; none of another, or of one that is refused later."""
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                return _in_dicom(file) or ()
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    found = _in_dicom(file)
                if found is not None:
                    return found
    except (InputError, *_BROKEN):
        pass
    return ()


def _in_dicom(file: IO[bytes]) -> Sequence[str] | None:
    """Names and identifiers in one file; None where it is no DICOM."""
    head = file.read(_HEAD_BYTES)
    if not is_dicom(head):
        return None
    try:
        return names_in_dicom(head)
    except InputError:  # a data set that is deflated is read as a whole or not at all
        return names_in_dicom(head + file.read())
