"""What a DICOM header tells of the patient and of what is shown; no pixel depends on it.

What is malformed is left out, with a warning where a value was there. Identity stays in the file.
"""

from __future__ import annotations

import re
from datetime import date

from pydicom import uid
from pydicom.dataset import Dataset

from consilium.domain.errors import InputError, UnreadableImage
from consilium.domain.study import Patient, Sex
from consilium.formats.demographics import age_at, read_age, read_sex
from consilium.formats.dicom.elements import decimals, text
from consilium.formats.dicom.origin import Origin
from consilium.formats.square_pixels import possible_aspect
from consilium.formats.times import dicom_date_time

SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
"""Where the distance between pixels stands, the first that does: at the patient, at the detector, on the film."""
HEADER_KEYWORDS = (
    *SPACINGS,
    *("PixelAspectRatio", "PatientAge", "PatientBirthDate", "PatientSex", "Modality", "BodyPartExamined"),
    *("AnatomicRegionSequence", "PresentationIntentType", "StudyDate"),
)

_FOR_PROCESSING = (
    uid.DigitalXRayImageStorageForProcessing,
    uid.DigitalMammographyXRayImageStorageForProcessing,
    uid.DigitalIntraOralXRayImageStorageForProcessing,
)
_CODE_STRING = re.compile("[A-Z0-9 ]{1,16}")
_BODY_PARTS = {"THORAX": "CHEST", "TORAX": "CHEST", "THORACIC": "CHEST"}
_CHEST_CODES = ("51185008", "816094009", "T-D3000")


def optional_text(dataset: Dataset, keyword: str) -> str:
    """The text of an element; empty where it is absent or malformed."""
    try:
        return text(dataset, keyword)
    except UnreadableImage:
        return ""


def read_spacing(dataset: Dataset) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Distance between rows and between columns in mm, and what is wrong with the elements that give none."""
    warnings: list[str] = []
    for keyword in SPACINGS:
        try:
            written = decimals(dataset, keyword)
        except UnreadableImage as error:
            warnings.append(f"{keyword} is not used: {error.rule}")
            continue
        match written:
            case (float(rows), float(columns)) if 0 < rows < 100 and 0 < columns < 100:
                if possible_aspect(rows, columns):
                    return (rows, columns), tuple(warnings)
            case () | (None,):
                continue
        warnings.append(f"{keyword} is not used: must be two like distances above 0 and below 100 mm")
    return None, tuple(warnings)


def spacing_element(dataset: Dataset) -> str | None:
    """The element of which `read_spacing` has the distances: at the patient, at the detector or on the film."""
    for keyword in SPACINGS:
        alone = Dataset()
        if keyword in dataset:
            alone[keyword] = dataset.get_item(keyword)
            if read_spacing(alone)[0] is not None:
                return keyword
    return None


def read_aspect(dataset: Dataset, spacing: tuple[float, float] | None) -> tuple[float, tuple[str, ...]]:
    """Height of a pixel over its width, and what is wrong with the element that does not give it.

    Pixel Aspect Ratio counts where there is no `spacing`. Source: PS3.3 C.7.6.3.1.7.
    """
    if spacing is not None:
        return spacing[0] / spacing[1], ()
    try:
        written = decimals(dataset, "PixelAspectRatio")
    except UnreadableImage as error:
        return 1.0, (f"PixelAspectRatio is not used: {error.rule}",)
    match written:
        case (float(vertical), float(horizontal)) if possible_aspect(vertical, horizontal):
            return vertical / horizontal, ()
        case () | (None,):
            return 1.0, ()
    return 1.0, ("PixelAspectRatio is not used: must be two like numbers above 0",)


def read_origin(dataset: Dataset) -> Origin:
    """What the file says that it shows; a word that is none of DICOM's kind is left out."""
    intent = optional_text(dataset, "PresentationIntentType").upper()
    return Origin(
        modality=_code_string(optional_text(dataset, "Modality")),
        body_part=_body_part(dataset),
        for_processing=intent == "FOR PROCESSING" or optional_text(dataset, "SOPClassUID") in _FOR_PROCESSING,
    )


def read_header_patient(dataset: Dataset, acquired: date | None) -> tuple[Patient, tuple[str, ...]]:
    """Age and sex at the time of the image; the age from the birth date where it is not given itself."""
    try:
        age, warnings = read_age(optional_text(dataset, "PatientAge"), "PatientAge")
    except InputError:
        age, warnings = None, ("PatientAge is not used: must be an age such as 067Y",)
    try:
        sex = read_sex(optional_text(dataset, "PatientSex"), "PatientSex")
    except InputError:
        sex, warnings = Sex.UNKNOWN, (*warnings, "PatientSex is not used: must be M, F or O")
    return Patient(_age_from_birth(dataset, acquired) if age is None else age, sex), warnings


def _age_from_birth(dataset: Dataset, acquired: date | None) -> float | None:
    born = _day(optional_text(dataset, "PatientBirthDate"))
    day = acquired or _day(optional_text(dataset, "StudyDate"))
    return None if born is None or day is None else age_at(born, day)


def _day(shown: str) -> date | None:
    moment = dicom_date_time(shown, "00")
    return moment.date() if moment else None


def _body_part(dataset: Dataset) -> str:
    part = _code_string(optional_text(dataset, "BodyPartExamined"))
    if not part and dataset.get("AnatomicRegionSequence"):
        region = dataset.AnatomicRegionSequence[0]
        part = (
            "CHEST"
            if optional_text(region, "CodeValue") in _CHEST_CODES
            else _code_string(optional_text(region, "CodeMeaning"))
        )
    return _BODY_PARTS.get(part, part)


def _code_string(shown: str) -> str:
    """`shown` as a code string, by which it is compared; empty where it is none, and may be anything."""
    folded = " ".join(shown.upper().replace("_", " ").split())
    return folded if _CODE_STRING.fullmatch(folded) else ""
