"""What the images of a study say of patient, study and themselves, made fit to be written again.

Hospitals' files lack attributes that they must have, or give them in bytes of an undeclared character set. Identifiers
are taken over as they stand, so that an archive files the result with its study; what cannot be a date is left empty.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from consilium.domain.errors import InputError
from consilium.formats.dicom.elements import sequence_items
from consilium.formats.dicom.file_structure import data_set_digest, quiet, read_elements
from consilium.formats.dicom.header import HEADER_KEYWORDS, optional_text, read_origin
from consilium.formats.times import dicom_date_time

UTF_8 = "ISO_IR 192"
_IDENTITY = ("PatientName", "PatientID", "IssuerOfPatientID", "ReferringPhysicianName", "AccessionNumber", "StudyID")
_DATES = ("PatientBirthDate", "StudyDate")
_CODES = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
_REFERENCE = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
_KEYWORDS = (
    *("SpecificCharacterSet", "StudyTime", "TimezoneOffsetFromUTC", "Rows", "Columns", "ProcedureCodeSequence"),
    *("PatientOrientation", "ImageLaterality", "Laterality", "IssuerOfAccessionNumberSequence"),
    *(*_IDENTITY, *_DATES, *_REFERENCE, *HEADER_KEYWORDS),
)
_ISSUERS = ("LocalNamespaceEntityID", "UniversalEntityID", "UniversalEntityIDType")
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_OFFSET = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")


@dataclass(frozen=True, slots=True, eq=False)
class SourceImage:
    """One image of a study, without its pixels.

    Attributes
    ----------
    dataset : Dataset
        What results take over or refer to; every attribute that they must have is there, be it empty. In UTF-8.
    digest : str
        SHA-256 of its data set, in hex.
    """

    dataset: Dataset
    digest: str

    @property
    def instance(self) -> str:
        """SOP Instance UID."""
        return str(self.dataset.SOPInstanceUID)

    @property
    def study(self) -> str:
        """Study Instance UID."""
        return str(self.dataset.StudyInstanceUID)


def read_source(data: bytes, field: str = "images[0]") -> SourceImage:
    """The image in the DICOM file `data`.

    Raises
    ------
    InputError
        It is no DICOM file, or does not name itself, its series or its study, so that no result can refer to it.
    """
    try:
        with quiet():
            found = read_elements(data, _KEYWORDS).dataset
            return SourceImage(_fit(found), data_set_digest(data))
    except InputError as error:
        raise error.at(field) from None


def require_one_study(sources: Sequence[SourceImage]) -> None:
    """Raise `InputError` unless there is an image, and all are of one patient and one study."""
    if not sources:
        raise InputError("images", "none", "must hold a DICOM image, whose patient and study the result takes over")
    first = sources[0].dataset
    for position, source in enumerate(sources):
        for keyword in ("StudyInstanceUID", "PatientID", "IssuerOfPatientID"):
            if source.dataset.get(keyword) != first.get(keyword):
                rule = f"must have the {keyword} of images[0]"
                raise InputError(f"images[{position}]", f"another {keyword}", rule)


def _fit(found: Dataset) -> Dataset:
    fit = Dataset()
    fit.SpecificCharacterSet = UTF_8
    for keyword in _REFERENCE:
        if not (uid := optional_text(found, keyword)):
            raise InputError(keyword, None, "must be present: results refer to the image by it")
        setattr(fit, keyword, uid)
    for keyword in _IDENTITY:
        setattr(fit, keyword, _words(found, keyword))
    if not fit.IssuerOfPatientID:
        del fit.IssuerOfPatientID
    for keyword in _DATES:
        shown = optional_text(found, keyword)
        setattr(fit, keyword, shown if len(shown) == len("YYYYMMDD") and dicom_date_time(shown, "00") else "")
    time, offset = optional_text(found, "StudyTime"), optional_text(found, "TimezoneOffsetFromUTC")
    fit.StudyTime = time if _TIME.fullmatch(time) else ""
    if _OFFSET.fullmatch(offset):
        fit.TimezoneOffsetFromUTC = offset
    _add_description(fit, found)
    return fit


def _add_description(fit: Dataset, found: Dataset) -> None:
    """What of the image itself results name: its grid, modality, body part, and the procedure and order."""
    sex, origin = optional_text(found, "PatientSex").upper(), read_origin(found)
    fit.PatientSex = sex if sex in ("M", "F", "O") else ""
    fit.Modality, fit.BodyPartExamined = origin.modality or "OT", origin.body_part
    fit.PatientOrientation = ""
    sides = [optional_text(found, keyword) for keyword in ("ImageLaterality", "Laterality")]
    fit.Laterality = next((side for side in sides if side in ("R", "L")), "")
    for keyword in ("Rows", "Columns"):
        setattr(fit, keyword, int(found.get(keyword) or 0))
    for keyword, inner in (("ProcedureCodeSequence", _CODES), ("IssuerOfAccessionNumberSequence", _ISSUERS)):
        items = [_item(one, inner) for one in sequence_items(found, keyword)]
        if kept := [one for one in items if len(one)]:
            setattr(fit, keyword, kept)


def _item(item: Dataset, keywords: Sequence[str]) -> Dataset:
    found = Dataset()
    for keyword in keywords:
        if value := optional_text(item, keyword):
            setattr(found, keyword, value)
    return found


def _words(dataset: Dataset, keyword: str) -> str:
    """The first value of an element as text, also where its bytes are of a character set that is not declared."""
    element: object = dataset.get_item(keyword)
    raw = element.value if isinstance(element, RawDataElement) else None
    if isinstance(raw, bytes) and not optional_text(dataset, "SpecificCharacterSet"):
        words = _decoded(raw)
    else:
        words = optional_text(dataset, keyword)
    return words.partition("\\")[0].strip(" \x00")


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")
