"""The files of a study as the service is sent them."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset

from consilium.formats.dicom.file_structure import quiet
from hospital.store.received import PatientId, ReceivedInstance
from hospital.store.sealed_files import SealedFiles


def sent_files(files: SealedFiles, images: Sequence[ReceivedInstance], patient: PatientId | None) -> tuple[bytes, ...]:
    """The bytes of `images` as they were received.

    After a merge some may name the patient by a former identifier. The service knows of no merges, and takes images of
    two identifiers for those of two patients: then copies are sent that name the one that stays.
    """
    named = {image.patient for image in images if image.patient is not None}
    contents = [files.read(image.file) for image in images if image.file is not None]
    if len(named) <= 1 or patient is None:
        return tuple(contents)
    staying = [content for image, content in zip(images, contents, strict=True) if image.patient == patient]
    issuer = _header(staying[0]).get("IssuerOfPatientID", "") if staying else ""
    return tuple(_renamed(content, patient.value, issuer) for content in contents)


def _header(content: bytes) -> Dataset:
    with quiet():
        return pydicom.dcmread(BytesIO(content), force=True, stop_before_pixels=True)


def _renamed(content: bytes, patient: str, issuer: str) -> bytes:
    buffer = BytesIO()
    with quiet():
        dataset = pydicom.dcmread(BytesIO(content), force=True)
        dataset.PatientID, dataset.IssuerOfPatientID = patient, issuer
        if not issuer:
            del dataset.IssuerOfPatientID
        dataset.save_as(buffer)
    return buffer.getvalue()
