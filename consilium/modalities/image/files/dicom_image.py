"""DICOM: a file's bytes become an Image.

Single-frame two-dimensional images: computed and digital radiographs, and whatever else has that shape. Multi-frame and
enhanced objects, and those whose pixels are no picture of a patient, are refused by name. Identity stays in the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset

from consilium.domain.errors import DecodeFailed, InputError, UnreadableImage, UnsupportedMedia
from consilium.domain.study import identifier_digest
from consilium.formats.dicom.display import DisplayValues, display_values, quantity_scale, windows
from consilium.formats.dicom.elements import comma_warnings, text, whole_number
from consilium.formats.dicom.file_structure import DicomFile, quiet, read_elements
from consilium.formats.dicom.header import (
    HEADER_KEYWORDS,
    SPACINGS,
    optional_text,
    read_aspect,
    read_header_patient,
    read_origin,
    read_spacing,
    spacing_element,
)
from consilium.formats.dicom.identity import (
    IDENTITY_KEYWORDS,
    ORIGIN_KEYWORDS,
    device_digest,
    names_of,
    order_digest,
    patient_label,
    site_digest,
)
from consilium.formats.dicom.own_objects import MANUFACTURER, OWN_OBJECT_KEYWORDS, is_own_object
from consilium.formats.dicom.pixels import PixelFormat, decoding, pixel_words, read_pixel_format
from consilium.formats.limits import Limits, check_bytes
from consilium.formats.square_pixels import with_square_pixels
from consilium.formats.times import dicom_date_time, dicom_datetime, dicom_offset
from consilium.modalities.image.image_record import Image, ViewPosition
from consilium.modalities.image.image_view import GreyTable, ImageView, Padding, Quantity, ViewWindow, grey_table
from consilium.modalities.presentation import Viewed
from consilium.modalities.registry import default_limits

Result = TypeVar("Result")

_REFUSED_CLASSES = (
    "Enhanced",
    "Multi-frame",
    "Tomosynthesis",
    "Segmentation",
    "Parametric Map",
    "RT Dose",
    "Whole Slide",
    "Video",
    "Tomography",
    "Volume",
    "Presentation State",
    "Wide Field",
    "Thickness Map",
)
"""Parts of the names of SOP classes whose frames are many, or no picture of a patient."""

_VIEWS = {
    "PA": ViewPosition.PA,
    "AP": ViewPosition.AP,
    "LL": ViewPosition.LATERAL,
    "RL": ViewPosition.LATERAL,
    "LLD": ViewPosition.UNKNOWN,
    "RLD": ViewPosition.UNKNOWN,
    "LATERAL": ViewPosition.LATERAL,
    "LAT": ViewPosition.LATERAL,
    "AP SUPINE": ViewPosition.AP_SUPINE,
    "SUPINE": ViewPosition.AP_SUPINE,
}

_VIEW_CODES = {
    "272479007": ViewPosition.PA,
    "R-40888": ViewPosition.PA,
    "399348003": ViewPosition.AP,
    "R-10206": ViewPosition.AP,
    "399067008": ViewPosition.LATERAL,
    "R-102CD": ViewPosition.LATERAL,
    "399173006": ViewPosition.LATERAL,
    "R-10236": ViewPosition.LATERAL,
    "399198007": ViewPosition.LATERAL,
    "R-10232": ViewPosition.LATERAL,
}
"""View Code Sequence, context group 4010: SNOMED CT concepts and the SNOMED-RT codes they had."""

_PALETTES = tuple(
    f"{colour}PaletteColorLookupTable{part}" for colour in ("Red", "Green", "Blue") for part in ("Descriptor", "Data")
)

_DECIMALS = ("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth")

_UIDS = {
    "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
    "sop_instance_uid": "SOPInstanceUID",
}

_KEYWORDS = (
    *("SOPClassUID", "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration", "PixelData"),
    *("FloatPixelData", "DoubleFloatPixelData", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction", "PresentationLUTShape", *_PALETTES, *_DECIMALS),
    *("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "ContentDate", "ContentTime"),
    *("TimezoneOffsetFromUTC", "SeriesDate", "SeriesTime", "StudyDate", "StudyTime"),
    *("ViewPosition", "ViewCodeSequence", "PatientPosition", "ImageLaterality", "Laterality"),
    *("BurnedInAnnotation", "PatientID", *_UIDS.values(), *HEADER_KEYWORDS, *IDENTITY_KEYWORDS),
    *(*ORIGIN_KEYWORDS, *OWN_OBJECT_KEYWORDS),
)


def read_dicom(data: bytes, *, field: str = "image", limits: Limits | None = None) -> Image:
    """Read a DICOM file.

    The pixels are those a viewer would first show: modality LUT or rescale; the first VOI LUT or, without one, the
    first window that can be; without either the range the image uses, or 0 to 255 of a plain 8-bit image. MONOCHROME1
    is inverted, colour becomes luminance, padding becomes black, pixels become square. `acquired` is Acquisition,
    Content, Series or Study date and time, the first that is complete, with its own or the file's offset from UTC.

    Parameters
    ----------
    data : bytes
        The whole file, with or without preamble and file meta information.
    field : str
        Where the image stood in the caller's request; begins the field of every error.

    Raises
    ------
    UnreadableImage
        Truncated, corrupt, without pixels, or contradicting itself.
    UnsupportedMedia
        An object or encoding that is refused by name.
    TooLarge
        Beyond `limits`, as a file, as declared, or once inflated.
    """
    return _read(data, field, limits, _image)


def read_viewed_dicom(data: bytes, *, field: str = "image", limits: Limits | None = None) -> Viewed:
    """The same, with its words as they are stored and what becomes of each.

    Raises
    ------
    UnreadableImage, UnsupportedMedia, TooLarge
        As `read_dicom` does.
    """
    return _read(data, field, limits, _viewed)


def _read(data: bytes, field: str, limits: Limits | None, finish: Callable[[_Decoded], Result]) -> Result:
    limits = limits or default_limits()
    try:
        check_bytes(len(data), limits["image_bytes"])
        with quiet():
            return decoding(lambda given, bounds: finish(_decoded(given, bounds)), data, limits)
    except InputError as error:
        raise error.at(field) from None
    except MemoryError:
        raise DecodeFailed(field, "out of memory", "must be decodable within the memory of a worker") from None


@dataclass(frozen=True, slots=True, eq=False)
class _Decoded:
    """A file whose pixels were decoded."""

    data: bytes
    limits: Limits
    dataset: Dataset
    pixels: PixelFormat
    words: npt.NDArray[Any]
    values: DisplayValues


def _decoded(data: bytes, limits: Limits) -> _Decoded:
    file = read_elements(data, _KEYWORDS, limits["image_bytes"])
    _refuse_other_objects(file)
    pixels = read_pixel_format(file.dataset, file.transfer_syntax, limits["image_pixels"])
    words, photometric = pixel_words(file, pixels)
    return _Decoded(data, limits, file.dataset, pixels, words, display_values(words, photometric, pixels, file.dataset))


def _viewed(decoded: _Decoded) -> Viewed:
    image, dataset, pixels = _image(decoded), decoded.dataset, decoded.pixels
    words, table, padding, is_value = _shown_words(decoded)
    scale = quantity_scale(dataset) if is_value else None
    view = ImageView.of(
        image,
        words=words,
        bits=8 * words.dtype.itemsize,
        signed=words.dtype.kind == "i",
        table=table,
        padding=padding,
        quantity=None if scale is None else Quantity(slope=scale[0], intercept=scale[1]),
        windows=tuple(ViewWindow(center=center, width=width) for center, width in windows(dataset)),
        photometric=pixels.photometric_interpretation,
        spacing_source=spacing_element(dataset),
        **{name: _uid(dataset, keyword) for name, keyword in _UIDS.items()},
    )
    issuer = optional_text(dataset, "IssuerOfPatientID")
    return Viewed(image, view, np.ascontiguousarray(words), patient_label(dataset), issuer or None)


def _shown_words(decoded: _Decoded) -> tuple[npt.NDArray[Any], GreyTable, Padding | None, bool]:
    """What a viewer looks up, the greys that it finds, what pads the image, and whether the words are stored values.

    Of colours their greys; of words in which more than the stored value decides, these words themselves.
    """
    values, pixels = decoded.values, decoded.pixels
    if values.table is None:
        return (values.display >> 8).astype(np.uint8), GreyTable(kind="identity8"), None, False
    domain = np.arange(2**pixels.bits_allocated, dtype=decoded.words.dtype)
    stored = pixels.stored(domain)
    greys, first = (values.table >> 8).astype(np.uint8), int(stored.min())
    of_stored, pads = np.zeros((2, len(domain)), np.uint8)
    of_stored[stored.astype(np.int64) - first] = greys
    pads[stored.astype(np.int64) - first] = values.padding
    present = np.unique(decoded.words)
    places = stored[present].astype(np.int64) - first
    if np.array_equal(of_stored[places], greys[present]) and np.array_equal(pads[places], values.padding[present]):
        shown = pixels.stored(decoded.words)
        return shown, *grey_table(shown, of_stored, pads.astype(np.bool_), first), True
    return decoded.words, *grey_table(decoded.words, greys, values.padding, 0), False


def _image(decoded: _Decoded) -> Image:
    dataset, pixels, limits = decoded.dataset, decoded.pixels, decoded.limits
    spacing, spacing_warnings = read_spacing(dataset)
    aspect, aspect_warnings = read_aspect(dataset, spacing)
    acquired, acquired_warnings = _acquired(dataset)
    patient, patient_warnings = read_header_patient(dataset, acquired and acquired.date())
    return Image(
        pixels=with_square_pixels(decoded.values.display, aspect, limits["image_pixels"]),
        digest=hashlib.sha256(decoded.data).hexdigest(),
        source="dicom",
        view=_view(dataset),
        laterality=_laterality(dataset),
        pixel_spacing=spacing,
        acquired=acquired,
        patient_digest=identifier_digest(optional_text(dataset, "PatientID")),
        study_digest=identifier_digest(optional_text(dataset, "StudyInstanceUID")),
        accession_digest=order_digest(dataset),
        device_digest=device_digest(dataset),
        site_digest=site_digest(dataset),
        burned_in={"YES": True, "NO": False}.get(optional_text(dataset, "BurnedInAnnotation")),
        grid=(pixels.rows, pixels.columns),
        patient=patient,
        origin=read_origin(dataset),
        names=names_of(dataset),
        warnings=(
            *comma_warnings(dataset, (*_DECIMALS, *SPACINGS, "PixelAspectRatio")),
            *(*decoded.values.warnings, *spacing_warnings, *aspect_warnings, *patient_warnings, *acquired_warnings),
        ),
    )


def _refuse_other_objects(file: DicomFile) -> None:
    dataset = file.dataset
    if is_own_object(dataset):
        raise UnsupportedMedia(
            "Manufacturer", MANUFACTURER, "must be a record of the patient, not a result of this software"
        )
    name = uid.UID(text(dataset, "SOPClassUID")).name
    if any(part in name for part in _REFUSED_CLASSES):
        rule = "must be a single-frame two-dimensional image; CT and MR volumes are sent as volumes"
        raise UnsupportedMedia("SOPClassUID", name[:64], rule)
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise UnsupportedMedia("FloatPixelData", "floating-point pixels", "must be integer pixels")
    if not file.pixel_data:
        raise UnreadableImage("PixelData", None, "must be present and not empty")
    if text(dataset, "NumberOfFrames"):
        frames = whole_number(dataset, "NumberOfFrames", 0, 2**31 - 1)
        if frames > 1:
            raise UnsupportedMedia("NumberOfFrames", frames, "must be 1; CT and MR volumes are sent as volumes")


def _view(dataset: Dataset) -> ViewPosition:
    view = _VIEWS.get(optional_text(dataset, "ViewPosition").upper().replace("_", " "), ViewPosition.UNKNOWN)
    if view is ViewPosition.UNKNOWN and dataset.get("ViewCodeSequence"):
        view = _VIEW_CODES.get(optional_text(dataset.ViewCodeSequence[0], "CodeValue"), ViewPosition.UNKNOWN)
    # Head or feet first, supine: PS3.3 C.7.3.1.1.2.
    if view is ViewPosition.AP and optional_text(dataset, "PatientPosition").upper() in ("HFS", "FFS"):
        return ViewPosition.AP_SUPINE
    return view


def _uid(dataset: Dataset, keyword: str) -> str | None:
    """Source: PS3.5, section 9.1."""
    found = uid.UID(optional_text(dataset, keyword))
    return str(found) if found.is_valid else None


def _laterality(dataset: Dataset) -> str | None:
    side = optional_text(dataset, "ImageLaterality") or optional_text(dataset, "Laterality")
    return side if side in ("R", "L", "U", "B") else None


def _acquired(dataset: Dataset) -> tuple[datetime | None, tuple[str, ...]]:
    """When the image was taken, with an offset where the file states one; and what of it cannot be read."""
    warnings: list[str] = []
    stated = optional_text(dataset, "TimezoneOffsetFromUTC")
    offset = dicom_offset(stated) if stated else None
    if stated and offset is None:
        warnings.append("TimezoneOffsetFromUTC is not used: must be an offset from UTC such as +0100")
    whole = optional_text(dataset, "AcquisitionDateTime")
    acquired = dicom_datetime(whole, offset)
    if acquired is None and len(whole) > len("YYYYMMDD"):
        warnings.append("AcquisitionDateTime is not used: must be a date and time such as 20200301101500+0100")
    for event in ("Acquisition", "Content", "Series", "Study"):
        if acquired is None:
            day, clock = optional_text(dataset, f"{event}Date"), optional_text(dataset, f"{event}Time")
            acquired = dicom_date_time(day, clock, offset)
            if acquired is None and day and clock:
                warnings.append(f"{event}Date and {event}Time are not used: must be a day and a time of it")
    return acquired, tuple(warnings)
