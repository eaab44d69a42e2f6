"""SliceHeader: what is known of one slice, a file or a frame of one, before any pixel is decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset

from consilium.domain.errors import InputError, UnsupportedMedia
from consilium.domain.study import identifier_digest
from consilium.formats.dicom.elements import decimal, decimals, sequence_items, text, whole_number
from consilium.formats.dicom.file_structure import DicomFile
from consilium.formats.dicom.header import HEADER_KEYWORDS, optional_text
from consilium.formats.dicom.identity import IDENTITY_KEYWORDS, ORIGIN_KEYWORDS
from consilium.formats.dicom.own_objects import OWN_OBJECT_KEYWORDS, is_own_object
from consilium.formats.dicom.pixels import PixelFormat, read_pixel_format

Triple = tuple[float, float, float]

SINGLE = {uid.CTImageStorage: "CT", uid.MRImageStorage: "MR"}
MULTIPLE = {
    uid.EnhancedCTImageStorage: "CT",
    uid.EnhancedMRImageStorage: "MR",
    uid.LegacyConvertedEnhancedCTImageStorage: "CT",
    uid.LegacyConvertedEnhancedMRImageStorage: "MR",
}
PIXEL_KEYWORDS = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PlanarConfiguration", "PixelData", "NumberOfFrames"),
)
_SPLITTING = (
    *("EchoTime", "EchoNumbers", "TemporalPositionIdentifier", "DiffusionBValue", "TriggerTime", "ImageType"),
    *("AcquisitionNumber", "AcquisitionTime", "InversionTime", "SeriesTime", "ContentTime"),
)
"""By what slices at one place differ where they are of several acquisitions, echoes, phases or kinds of image."""
_FRAME_SPLITTING = ("TemporalPositionIndex", "StackID", "DimensionIndexValues", "FrameAcquisitionNumber")
KEYWORDS = (
    *PIXEL_KEYWORDS,
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber"),
    *("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "GantryDetectorTilt"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "FloatPixelData", "DoubleFloatPixelData"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("AcquisitionDateTime", "AcquisitionDate", "ContentDate", "SeriesDate", "StudyTime", "TimezoneOffsetFromUTC"),
    *("StudyInstanceUID", *_SPLITTING, *HEADER_KEYWORDS, *IDENTITY_KEYWORDS, *ORIGIN_KEYWORDS, *OWN_OBJECT_KEYWORDS),
)
_GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
}
"""Where a frame's attributes stand, in its own functional groups or in those that all frames share. Source: PS3.3
C.7.6.16.2."""
_LEAST_LENGTH, _LEAST_SLOPE, _MOST_SLOPE = 0.99, 1e-9, 1e6


@dataclass(frozen=True, slots=True, eq=False)
class SliceHeader:
    """One slice.

    Attributes
    ----------
    file, frame : int
        Which file of those that were sent, and which of its frames.
    series, instance : str
        Series and SOP Instance UID, for comparisons alone; the number of the file where it has none of its own.
    patient : str
        Digest of the Patient ID; empty where there is none.
    position : (float, float, float)
        LPS coordinates of the centre of the first pixel, millimetres.
    along_row, along_column : (float, float, float)
        Unit vectors towards the next column and the next row.
    spacing : (float, float)
        Distance of rows and of columns from each other, millimetres.
    slope, intercept : float
        Stored value × slope + intercept is the value.
    hounsfield : bool
        The values are Hounsfield units, as the file states them.
    attributes : mapping
        By what it may differ from another slice at its place.
    """

    file: int
    frame: int
    series: str
    series_number: int
    instance: str
    patient: str
    modality: str
    pixels: PixelFormat
    position: Triple
    along_row: Triple
    along_column: Triple
    spacing: tuple[float, float]
    thickness: float | None
    slope: float
    intercept: float
    hounsfield: bool
    localizer: bool
    derived: bool
    attributes: Mapping[str, str]


def slice_headers(file: DicomFile, number: int, most_pixels: int) -> list[SliceHeader]:
    """The slices of one DICOM file: itself, or its frames.

    Raises
    ------
    UnsupportedMedia
        Another object than a CT or MR image.
    InputError
        A header that does not say where the slices lie, or contradicts itself.
    """
    dataset = file.dataset
    if is_own_object(dataset):
        raise UnsupportedMedia("Manufacturer", "Consilium", "must be a record of the patient, not a result")
    kind = uid.UID(text(dataset, "SOPClassUID"))
    if kind not in SINGLE and kind not in MULTIPLE:
        raise UnsupportedMedia("SOPClassUID", kind.name[:64], "must be a CT or MR image, single or enhanced")
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise UnsupportedMedia("FloatPixelData", "floating-point pixels", "must be integer pixels")
    if not file.pixel_data:
        raise InputError("PixelData", None, "must be present and not empty")
    pixels = read_pixel_format(dataset, file.transfer_syntax, most_pixels)
    if pixels.samples_per_pixel != 1 or not pixels.photometric_interpretation.startswith("MONOCHROME"):
        raise UnsupportedMedia("PhotometricInterpretation", pixels.photometric_interpretation, "must be MONOCHROME2")
    if kind in SINGLE:
        if text(dataset, "NumberOfFrames") not in ("", "1"):
            raise UnsupportedMedia("NumberOfFrames", text(dataset, "NumberOfFrames")[:12], "must be 1 in this object")
        return [_header(dataset, (dataset,), number, 0, SINGLE[kind], pixels)]
    shared = sequence_items(dataset, "SharedFunctionalGroupsSequence")[:1]
    frames = sequence_items(dataset, "PerFrameFunctionalGroupsSequence")
    if whole_number(dataset, "NumberOfFrames", 1, 2**31 - 1) != len(frames):
        given = f"{len(frames)} frames"
        raise InputError("PerFrameFunctionalGroupsSequence", given, "must have one item for each of NumberOfFrames")
    modality = MULTIPLE[kind]
    return [
        _header(dataset, (frame, *shared), number, position, modality, pixels) for position, frame in enumerate(frames)
    ]


def _header(
    dataset: Dataset, groups: Sequence[Dataset], file: int, frame: int, modality: str, pixels: PixelFormat
) -> SliceHeader:
    of_frame = dataset not in groups

    def holder(keyword: str) -> Dataset:
        """Where `keyword` stands; the file itself where nothing has it."""
        if not of_frame:
            return dataset
        for group in groups:
            for item in sequence_items(group, _GROUPS[keyword])[:1]:
                if keyword in item:
                    return item
        return Dataset()

    orientation = _numbers(holder("ImageOrientationPatient"), "ImageOrientationPatient", 6)
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if min(lengths) < _LEAST_LENGTH or max(lengths) > 2 - _LEAST_LENGTH or abs(row @ column) > 1 - _LEAST_LENGTH:
        given = "\\".join(f"{x:.3g}" for x in orientation)
        raise InputError("ImageOrientationPatient", given, "must be two unit vectors at right angles")
    rows, columns = _numbers(holder("PixelSpacing"), "PixelSpacing", 2)
    thickness = decimal(holder("SliceThickness"), "SliceThickness")
    slope, intercept, hounsfield = _scale(holder("RescaleSlope"), modality)
    kinds = text(dataset, "ImageType").upper()
    return SliceHeader(
        file=file,
        frame=frame,
        series=text(dataset, "SeriesInstanceUID"),
        series_number=_number(dataset, "SeriesNumber"),
        instance=f"{text(dataset, 'SOPInstanceUID') or file}:{frame}",
        patient=identifier_digest(optional_text(dataset, "PatientID")) or "",
        modality=modality,
        pixels=pixels,
        position=_triple(_numbers(holder("ImagePositionPatient"), "ImagePositionPatient", 3)),
        along_row=_triple(row / lengths[0]),
        along_column=_triple(column / lengths[1]),
        spacing=(rows, columns),
        thickness=thickness if thickness is not None and np.isfinite(thickness) and thickness > 0 else None,
        slope=slope,
        intercept=intercept,
        hounsfield=hounsfield,
        localizer="LOCALIZER" in kinds or "SCOUT" in kinds,
        derived="DERIVED" in kinds,
        attributes=_frame_attributes(groups[0]) if of_frame else _attributes(dataset, _SPLITTING),
    )


def _triple(values: Sequence[float] | np.ndarray) -> Triple:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _numbers(dataset: Dataset, keyword: str, count: int) -> list[float]:
    found = [value for value in decimals(dataset, keyword) if value is not None and np.isfinite(value)]
    if len(found) != count or len(decimals(dataset, keyword)) != count:
        raise InputError(keyword, f"{len(found)} numbers", f"must be {count} finite numbers")
    if keyword == "PixelSpacing" and min(found) <= 0:
        raise InputError(keyword, min(found), "must be two distances above 0")
    return found


def _number(dataset: Dataset, keyword: str) -> int:
    shown = optional_text(dataset, keyword)
    return int(shown) if shown.isdigit() and len(shown) < 10 else 0


def _scale(dataset: Dataset, modality: str) -> tuple[float, float, bool]:
    slope, intercept = decimal(dataset, "RescaleSlope"), decimal(dataset, "RescaleIntercept")
    stated = slope is not None and intercept is not None
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if not _LEAST_SLOPE <= abs(slope) <= _MOST_SLOPE:
        rule = f"must be a number that is not 0, from {_LEAST_SLOPE:g} to {_MOST_SLOPE:g} without its sign"
        raise InputError("RescaleSlope", slope, rule)
    if not np.isfinite(intercept) or abs(intercept) > _MOST_SLOPE:
        raise InputError("RescaleIntercept", intercept, f"must be a number of at most {_MOST_SLOPE:g}")
    kind = text(dataset, "RescaleType").upper()
    return slope, intercept, modality == "CT" and stated and kind in ("", "HU")


def _attributes(dataset: Dataset, keywords: Sequence[str]) -> dict[str, str]:
    found = ((keyword, optional_text(dataset, keyword)) for keyword in keywords)
    return {keyword: shown for keyword, shown in found if shown}


def _frame_attributes(group: Dataset) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in sequence_items(group, "FrameContentSequence")[:1]:
        found |= _attributes(item, _FRAME_SPLITTING)
    for item in sequence_items(group, "MREchoSequence")[:1]:
        found |= _attributes(item, ("EffectiveEchoTime",))
    for item in sequence_items(group, "MRDiffusionSequence")[:1]:
        found |= _attributes(item, ("DiffusionBValue",))
    return found
