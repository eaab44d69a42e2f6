"""DICOM: a file's bytes become an Image.

Single-frame two-dimensional images: computed and digital radiographs, and whatever else has that shape. Multi-frame and
enhanced objects, and those whose pixels are no picture of a patient, are refused by name. Identity stays in the file.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from io import BytesIO

from pydicom import uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from consilium.errors import DecodeFailed, InputError, TooLarge, UnreadableImage, UnsupportedMedia
from consilium.ingest.dicom_elements import comma_warnings, decimals, text, whole_number
from consilium.ingest.dicom_pixels import decoding, pixel_words, read_pixel_format
from consilium.ingest.display import display_values
from consilium.ingest.limits import DEFAULT_LIMITS, Limits
from consilium.ingest.times import dicom_date_time, dicom_datetime
from consilium.study import Image, ViewPosition

MAGIC_OFFSET, MAGIC = 128, b"DICM"

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
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")

_KEYWORDS = (
    *("SOPClassUID", "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration", "PixelData"),
    *("FloatPixelData", "DoubleFloatPixelData", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction", *_PALETTES, *_DECIMALS, *_SPACINGS),
    *("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "ContentDate", "ContentTime"),
    *("SeriesDate", "SeriesTime", "StudyDate", "StudyTime"),
    *("ViewPosition", "ViewCodeSequence", "PatientPosition", "ImageLaterality", "Laterality"),
    *("BurnedInAnnotation", "PatientID", "StudyInstanceUID"),
)


def read_dicom(data: bytes, *, field: str = "image", limits: Limits = DEFAULT_LIMITS) -> Image:
    """Read a DICOM file.

    The pixels are those a viewer would first show: modality LUT or rescale; the first VOI LUT or, without one, the
    first window; without either the range the image uses, or 0 to 255 of a plain 8-bit image. MONOCHROME1 is inverted,
    colour becomes luminance, padding becomes black. `acquired` is Acquisition, Content, Series or Study date and time,
    the first that is complete.

    Parameters
    ----------
    data : bytes
        The whole file, with preamble.
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
    try:
        limits.check_bytes(len(data))
        with quiet():
            return decoding(_image, data, limits)
    except InputError as error:
        raise error.at(field) from None
    except MemoryError:
        raise DecodeFailed(field, "out of memory", "must be decodable within the memory of a worker") from None


def read_elements(data: bytes, keywords: Sequence[str], limits: Limits = DEFAULT_LIMITS) -> tuple[Dataset, uid.UID]:
    """Elements of a DICOM file, those of `keywords` alone, and its transfer syntax. To be called `quiet`.

    Raises
    ------
    UnsupportedMedia, UnreadableImage, TooLarge
        And whatever pydicom raises on a broken file.
    """
    if data[MAGIC_OFFSET : MAGIC_OFFSET + 4] != MAGIC:
        raise UnsupportedMedia("preamble", "none", "must be a DICOM file with preamble and DICM prefix")
    file = BytesIO(data)
    file.seek(MAGIC_OFFSET + 4)
    meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group != 2)
    transfer_syntax = uid.UID(text(meta, "TransferSyntaxUID"))
    if not transfer_syntax:
        raise UnreadableImage("TransferSyntaxUID", None, "must be present")
    if transfer_syntax == uid.DeflatedExplicitVRLittleEndian:
        file = BytesIO(_inflate(data[file.tell() :], limits))
    dataset = read_dataset(
        file,
        is_implicit_VR=transfer_syntax == uid.ImplicitVRLittleEndian,
        is_little_endian=transfer_syntax != uid.ExplicitVRBigEndian,
        specific_tags=[tag for keyword in keywords if (tag := tag_for_keyword(keyword)) is not None],
    )
    return dataset, transfer_syntax


def _inflate(deflated: bytes, limits: Limits) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = stream.decompress(deflated, limits.image_bytes + 1)
    if len(inflated) > limits.image_bytes:
        raise TooLarge("size", "deflated data set", f"must be at most {limits.image_bytes} bytes once inflated")
    if not stream.eof:
        raise UnreadableImage("PixelData", "deflated data set", "must not be truncated")
    return inflated


def _image(data: bytes, limits: Limits) -> Image:
    dataset, transfer_syntax = read_elements(data, _KEYWORDS, limits)
    _refuse_other_objects(dataset)
    pixels = read_pixel_format(dataset, transfer_syntax, limits)
    words, photometric = pixel_words(dataset, pixels)
    spacing, spacing_warnings = _spacing(dataset)
    return Image(
        pixels=display_values(words, photometric, pixels, dataset),
        digest=hashlib.sha256(data).hexdigest(),
        source="dicom",
        view=_view(dataset),
        laterality=_laterality(dataset),
        pixel_spacing=spacing,
        acquired=_acquired(dataset),
        patient_digest=identifier_digest(_said(dataset, "PatientID")),
        study_digest=identifier_digest(_said(dataset, "StudyInstanceUID")),
        burned_in={"YES": True, "NO": False}.get(_said(dataset, "BurnedInAnnotation")),
        warnings=(*comma_warnings(dataset, (*_DECIMALS, *_SPACINGS)), *spacing_warnings),
    )


def _refuse_other_objects(dataset: Dataset) -> None:
    name = uid.UID(text(dataset, "SOPClassUID")).name
    if any(part in name for part in _REFUSED_CLASSES):
        raise UnsupportedMedia("SOPClassUID", name[:64], "must be a single-frame two-dimensional image")
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise UnsupportedMedia("FloatPixelData", "floating-point pixels", "must be integer pixels")
    if "PixelData" not in dataset:
        raise UnreadableImage("PixelData", None, "must be present")
    if text(dataset, "NumberOfFrames"):
        frames = whole_number(dataset, "NumberOfFrames", 0, 2**31 - 1)
        if frames > 1:
            raise UnsupportedMedia("NumberOfFrames", frames, "must be 1: multi-frame images are not read")


def _view(dataset: Dataset) -> ViewPosition:
    view = _VIEWS.get(_said(dataset, "ViewPosition").upper().replace("_", " "), ViewPosition.UNKNOWN)
    if view is ViewPosition.UNKNOWN and dataset.get("ViewCodeSequence"):
        view = _VIEW_CODES.get(_said(dataset.ViewCodeSequence[0], "CodeValue"), ViewPosition.UNKNOWN)
    # Head or feet first, supine: PS3.3 C.7.3.1.1.2.
    if view is ViewPosition.AP and _said(dataset, "PatientPosition").upper() in ("HFS", "FFS"):
        return ViewPosition.AP_SUPINE
    return view


def _laterality(dataset: Dataset) -> str | None:
    side = _said(dataset, "ImageLaterality") or _said(dataset, "Laterality")
    return side if side in ("R", "L", "U", "B") else None


def _spacing(dataset: Dataset) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Distance between rows and between columns in mm, and what is wrong with the elements that give none."""
    warnings: list[str] = []
    for keyword in _SPACINGS:
        try:
            written = decimals(dataset, keyword)
        except UnreadableImage as error:
            warnings.append(f"{keyword} is not used: {error.rule}")
            continue
        match written:
            case (float(rows), float(columns)) if 0 < rows < 100 and 0 < columns < 100:
                return (rows, columns), tuple(warnings)
            case () | (None,):
                continue
        warnings.append(f"{keyword} is not used: must be two distances above 0 and below 100 mm")
    return None, tuple(warnings)


def _acquired(dataset: Dataset) -> datetime | None:
    acquired = dicom_datetime(_said(dataset, "AcquisitionDateTime"))
    for event in ("Acquisition", "Content", "Series", "Study"):
        acquired = acquired or dicom_date_time(_said(dataset, f"{event}Date"), _said(dataset, f"{event}Time"))
    return acquired


def _said(dataset: Dataset, keyword: str) -> str:
    """What the file says beside the pixels; nothing where that is malformed, because no pixel depends on it."""
    try:
        return text(dataset, keyword)
    except UnreadableImage:
        return ""


def identifier_digest(identifier: str) -> str | None:
    """SHA-256 of a Patient ID or a Study Instance UID, without the blanks around it; None of an empty one."""
    said = identifier.strip()
    return hashlib.sha256(said.encode("utf-8", "surrogateescape")).hexdigest() if said else None


_quiet_lock = threading.Lock()
_quiet_levels: list[int] = []


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's warnings and log records, which quote element values, out of logs while it reads."""
    logger = logging.getLogger("pydicom")
    with _quiet_lock:
        _quiet_levels.append(logger.level)
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        with _quiet_lock:
            level = _quiet_levels.pop()
            # Readers in other threads may still be at work; the last one out puts back what the first one found.
            if not _quiet_levels:
                logger.setLevel(level)
