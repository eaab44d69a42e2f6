"""Volumes from files of any kind, recognised by their first bytes."""

from __future__ import annotations

import hashlib

import numpy as np

from consilium.domain.errors import InputError, UnsupportedMedia
from consilium.formats.dicom.file_structure import is_dicom
from consilium.formats.limits import Limits, check_bytes
from consilium.modalities.registry import default_limits
from consilium.modalities.volume.faults import Fault
from consilium.modalities.volume.files.archive import ZIP
from consilium.modalities.volume.files.dicom_series import read_series
from consilium.modalities.volume.files.nifti import GZIP, is_nifti, read_nifti
from consilium.modalities.volume.files.voxels import Voxels
from consilium.modalities.volume.volume_record import Volume

_EMPTY_ZIP = b"PK\x05\x06"
_MOST_VALUE = 1e12
"""Beyond it means of many voxels no longer are numbers."""
_SAMPLED = 1 << 20
"""Voxels of which the percentiles are taken."""


def read_volume(data: bytes, *, field: str = "volume", limits: Limits | None = None) -> Volume:
    """Read a zip archive of a DICOM series, an enhanced DICOM object or a NIfTI file.

    Raises
    ------
    InputError
        Names what is wrong with the file.
    """
    limits = limits or default_limits()
    try:
        check_bytes(len(data), limits["volume_bytes"])
        return _volume(_voxels(data, limits), hashlib.sha256(data).hexdigest())
    except InputError as error:
        raise error.at(field) from None


def _voxels(data: bytes, limits: Limits) -> Voxels:
    if data.startswith((ZIP, _EMPTY_ZIP)):
        return read_series(data, limits)
    if data.startswith(GZIP) or (is_nifti(data) and not is_dicom(data)):
        return read_nifti(data, limits)
    if is_dicom(data):
        return read_series(data, limits)
    given = "another kind of file" if data else "empty file"
    raise UnsupportedMedia("file", given, "must be a zip of a DICOM series, an enhanced DICOM object or NIfTI")


def _volume(found: Voxels, digest: str) -> Volume:
    ends = float(found.stored.min()), float(found.stored.max())
    largest = max(abs(end * found.slope + found.intercept) for end in ends)
    if largest > _MOST_VALUE:
        raise InputError("voxels", f"{largest:.3g}", f"must be values of at most {_MOST_VALUE:g}")
    blank = ends[0] == ends[1]
    step = max(1, round((found.stored.size / _SAMPLED) ** (1 / 3)))
    low, high = np.percentile(found.stored[::step, ::step, ::step], [1, 99])
    low, high = sorted((float(low) * found.slope + found.intercept, float(high) * found.slope + found.intercept))
    return Volume(
        voxels=found.stored,
        slope=found.slope,
        intercept=found.intercept,
        grid=found.grid,
        digest=digest,
        source=found.source,
        modality=found.modality,
        scale=(low, high),
        stored_type=found.stored.dtype.name,
        thickness=found.thickness,
        chosen=found.chosen,
        faults=(*found.faults, Fault.BLANK) if blank else found.faults,
        time=found.time,
        warnings=found.warnings,
        **found.known,
    )
