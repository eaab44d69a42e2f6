"""Small DICOM objects, made without any model: what is not passed stays as a radiography room would send it."""

from __future__ import annotations

import hashlib
from io import BytesIO
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite, write_dataset
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
)


def uid(*names: object) -> str:
    """A UID of these names: the same each time."""
    return f"2.25.{int.from_bytes(hashlib.sha256(repr(names).encode()).digest()[:15], 'big')}"


def radiograph(number: int = 1, *, side: int = 32, study: str = "A", **elements: Any) -> Dataset:
    """An image of `study`; `elements` replace what stands there, and None leaves an element out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = uid("instance", study, number)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid("study", study), uid("series", study)
    dataset.StudyDate, dataset.StudyTime, dataset.TimezoneOffsetFromUTC = "20260105", "101500", "+0100"
    dataset.Modality, dataset.Manufacturer, dataset.StationName = "DX", "Phantom Works", "ROOM1"
    dataset.PatientName, dataset.PatientID, dataset.IssuerOfPatientID = "Sample^Anna", f"P-{study}", "NORTH"
    dataset.PatientBirthDate, dataset.PatientSex = "19600203", "F"
    dataset.AccessionNumber, dataset.StudyID = f"ACC-{study}", "1"
    dataset.ViewPosition, dataset.BodyPartExamined = "PA", "CHEST"
    dataset.SeriesNumber, dataset.InstanceNumber = "1", str(number)
    pixels = np.random.default_rng(number).integers(0, 4096, (side, side), dtype=np.uint16)
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = side, side, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def encoded(dataset: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    """The data set by itself, as it goes over an association."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = syntax == ImplicitVRLittleEndian, syntax.is_little_endian
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def part10(dataset: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    """The data set as a file."""
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def rejection_note(*numbers: int, study: str = "A", title: str = "113001") -> Dataset:
    """A Key Object Selection document that rejects images of `study`."""
    series = Dataset()
    series.SeriesInstanceUID = uid("series", study)
    series.ReferencedSOPSequence = []
    for number in numbers:
        reference = Dataset()
        reference.ReferencedSOPClassUID = DigitalXRayImageStorageForPresentation
        reference.ReferencedSOPInstanceUID = uid("instance", study, number)
        series.ReferencedSOPSequence.append(reference)
    evidence = Dataset()
    evidence.StudyInstanceUID, evidence.ReferencedSeriesSequence = uid("study", study), [series]
    return without_pixels(
        radiograph(900, study=study),
        SOPClassUID=KeyObjectSelectionDocumentStorage,
        Modality="KO",
        ConceptNameCodeSequence=[code(title, "DCM", "Rejected for Quality Reasons")],
        CurrentRequestedProcedureEvidenceSequence=[evidence],
    )


def without_pixels(dataset: Dataset, **elements: Any) -> Dataset:
    """`dataset` without its Image Pixel module, with other elements instead."""
    for keyword in (
        "Rows",
        "Columns",
        "SamplesPerPixel",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
    ):
        delattr(dataset, keyword)
    del dataset.PhotometricInterpretation, dataset.PixelData
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset
