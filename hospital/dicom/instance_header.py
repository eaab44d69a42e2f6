"""The first bytes of a data set become what the store keeps of an instance. No pixel is looked at.

Every element but the four UIDs may be missing, empty or malformed: it is then unknown. Values are hostile: they are
bounded in length, and nothing of them is logged.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from io import BytesIO

from pydicom import uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag

from consilium.domain.errors import InputError
from consilium.domain.study import Sex
from consilium.formats.demographics import read_sex
from consilium.formats.dicom.elements import sequence_items
from consilium.formats.dicom.file_structure import quiet
from consilium.formats.dicom.header import optional_text, read_header_patient
from consilium.formats.dicom.own_objects import OWN_OBJECT_KEYWORDS, is_own_object
from consilium.formats.time_zone import TimeZone
from consilium.formats.times import dicom_date_time, dicom_datetime, dicom_offset, file_time
from hospital.store.received import Accession, Code, ImageDescription, PatientId, ReceivedRejection

HEADER_BYTES = 1 << 20
"""As much of a data set is kept for its header: what identifies an instance stands in the first kilobytes."""

_LONGEST = 256
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_EVENTS = ("Acquisition", "Content", "Series", "Study")
_KEYWORDS = (
    *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"),
    *("PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "PatientBirthDate", "PatientSex"),
    *(
        "PatientAge",
        "AccessionNumber",
        "IssuerOfAccessionNumberSequence",
        "Modality",
        "BodyPartExamined",
        "StationName",
    ),
    *("ViewPosition", "ImageLaterality", "Laterality", "ProcedureCodeSequence", "RequestedProcedureCodeSequence"),
    *("AcquisitionDateTime", "TimezoneOffsetFromUTC"),
    *(f"{event}{part}" for event in _EVENTS for part in ("Date", "Time")),
    *OWN_OBJECT_KEYWORDS,
)
_REJECTION_KEYWORDS = ("ConceptNameCodeSequence", "CurrentRequestedProcedureEvidenceSequence")
REJECTION_TITLES = {
    "113001": "Rejected for Quality Reasons",
    "113037": "Rejected for Patient Safety Reasons",
    "113038": "Incorrect Modality Worklist Entry",
    "113039": "Data Retention Policy Expired",
}
"""Titles of a rejection note, of DCM. Source: IHE RAD TF-3 4.66.4.1.3 (IOCM)."""


@dataclass(frozen=True, slots=True)
class Uids:
    """What identifies an instance."""

    sop_class: str
    sop_instance: str
    series: str
    study: str


@dataclass(frozen=True, slots=True)
class InstanceHeader:
    """What the header of an instance says; identifiers with the issuer that it names, None where it names none."""

    uids: Uids
    patient: PatientId | None
    accession: Accession | None
    ours: bool
    description: ImageDescription


def read_instance_header(start: bytes, transfer_syntax: str, zone: TimeZone, *, whole: bool = False) -> InstanceHeader:
    """The header of a data set, of which `start` is the beginning, or the `whole`.

    Raises
    ------
    InputError
        One of the four UIDs is missing or is none.
    """
    dataset = _elements(start, transfer_syntax, _KEYWORDS, whole=whole)
    with quiet():
        return InstanceHeader(_uids(dataset), _patient(dataset), _accession(dataset), *_about(dataset, zone))


def read_rejection(
    whole: bytes, transfer_syntax: str, received: datetime, source: str
) -> tuple[ReceivedRejection, ...]:
    """What a Key Object Selection document rejects, one record a study; nothing where it is no rejection note."""
    dataset = _elements(whole, transfer_syntax, _REJECTION_KEYWORDS, whole=True)
    with quiet():
        titles = codes(dataset, "ConceptNameCodeSequence")
        if not titles or titles[0].value not in REJECTION_TITLES:
            return ()
        found = _rejected(dataset)
    code = Code(titles[0].value, "DCM", REJECTION_TITLES[titles[0].value])
    return tuple(ReceivedRejection(study, rejected, code, received, source) for study, rejected in found)


def codes(dataset: Dataset, keyword: str) -> tuple[Code, ...]:
    """The items of a code sequence, in their order."""
    found = []
    for item in sequence_items(dataset, keyword):
        if value := short_text(item, "CodeValue") or short_text(item, "LongCodeValue"):
            system, meaning = short_text(item, "CodingSchemeDesignator"), short_text(item, "CodeMeaning")
            found.append(Code(value, system or None, meaning or None))
    return tuple(found)


def short_text(dataset: Dataset, keyword: str) -> str:
    """The text of an element; empty where it is absent, malformed or longer than any value of its kind."""
    shown = optional_text(dataset, keyword)
    return shown if len(shown) <= _LONGEST else ""


def is_uid(shown: str) -> bool:
    """Whether `shown` is a UID; components with leading zeros, which some devices write, are let pass. PS3.5 9."""
    return len(shown) <= 64 and _UID.fullmatch(shown) is not None


def _elements(start: bytes, transfer_syntax: str, keywords: tuple[str, ...], *, whole: bool) -> Dataset:
    tags = _tags(keywords)
    last = max(tags)
    stop: Callable[[BaseTag, str | None, int], bool] = lambda tag, *_: tag > last  # noqa: E731
    try:
        if transfer_syntax == uid.DeflatedExplicitVRLittleEndian:
            start = zlib.decompressobj(-zlib.MAX_WBITS).decompress(start, HEADER_BYTES)
        with quiet():
            return read_dataset(
                BytesIO(start),
                is_implicit_VR=transfer_syntax == uid.ImplicitVRLittleEndian,
                is_little_endian=transfer_syntax != uid.ExplicitVRBigEndian,
                stop_when=stop,
                specific_tags=list(tags),
            )
    except Exception:  # noqa: BLE001 - hostile bytes make pydicom raise anything at all
        shown = "malformed" if whole else f"malformed in its first {len(start)} bytes"
        raise InputError("data set", shown, "must be a data set of its transfer syntax") from None


@cache
def _tags(keywords: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(tag for keyword in keywords if (tag := tag_for_keyword(keyword)) is not None)


def _uids(dataset: Dataset) -> Uids:
    found = []
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        shown = optional_text(dataset, keyword)
        if not is_uid(shown):
            raise InputError(keyword, "malformed" if shown else None, "must be a UID")
        found.append(shown)
    return Uids(*found)


def _patient(dataset: Dataset) -> PatientId | None:
    value = short_text(dataset, "PatientID")
    qualifiers = sequence_items(dataset, "IssuerOfPatientIDQualifiersSequence")
    issuer = short_text(dataset, "IssuerOfPatientID") or (_entity(qualifiers[0]) if qualifiers else None)
    return PatientId(value, issuer) if value else None


def _accession(dataset: Dataset) -> Accession | None:
    value = short_text(dataset, "AccessionNumber")
    issuers = sequence_items(dataset, "IssuerOfAccessionNumberSequence")
    return Accession(value, _entity(issuers[0]) if issuers else None) if value else None


def _entity(item: Dataset) -> str | None:
    """An assigning authority (HL7v2 Hierarchic Designator, PS3.3 10.14): its local name, else its universal one."""
    return short_text(item, "LocalNamespaceEntityID") or short_text(item, "UniversalEntityID") or None


def _about(dataset: Dataset, zone: TimeZone) -> tuple[bool, ImageDescription]:
    acquired = _acquired(dataset, zone)
    patient, _ = read_header_patient(dataset, acquired and acquired.date())
    return is_own_object(dataset), ImageDescription(
        modality=short_text(dataset, "Modality") or None,
        body_part=short_text(dataset, "BodyPartExamined") or None,
        view=short_text(dataset, "ViewPosition") or None,
        laterality=short_text(dataset, "ImageLaterality") or short_text(dataset, "Laterality") or None,
        station=short_text(dataset, "StationName") or None,
        procedures=(*codes(dataset, "ProcedureCodeSequence"), *codes(dataset, "RequestedProcedureCodeSequence")),
        acquired=acquired,
        birth_date=_birth_date(dataset),
        sex=_sex(dataset),
        age=patient.age,
        name=short_text(dataset, "PatientName"),
    )


def _acquired(dataset: Dataset, zone: TimeZone) -> datetime | None:
    offset = dicom_offset(optional_text(dataset, "TimezoneOffsetFromUTC"))
    moment = dicom_datetime(optional_text(dataset, "AcquisitionDateTime"), offset)
    for event in _EVENTS:
        if moment is None:
            shown = [optional_text(dataset, f"{event}{part}") for part in ("Date", "Time")]
            moment = dicom_date_time(shown[0], shown[1], offset)
    return file_time(moment, "acquired", zone)[0]


def _birth_date(dataset: Dataset) -> date | None:
    moment = dicom_date_time(optional_text(dataset, "PatientBirthDate"), "00")
    return moment.date() if moment else None


def _sex(dataset: Dataset) -> Sex:
    try:
        return read_sex(optional_text(dataset, "PatientSex"), "PatientSex")
    except InputError:
        return Sex.UNKNOWN


def _rejected(dataset: Dataset) -> list[tuple[str, tuple[str, ...]]]:
    """Study and SOP Instance UIDs of the Hierarchical SOP Instance Reference macro (PS3.3 Table C.17-3)."""
    found = []
    for study in sequence_items(dataset, "CurrentRequestedProcedureEvidenceSequence"):
        references = [
            optional_text(reference, "ReferencedSOPInstanceUID")
            for series in sequence_items(study, "ReferencedSeriesSequence")
            for reference in sequence_items(series, "ReferencedSOPSequence")
        ]
        if is_uid(name := optional_text(study, "StudyInstanceUID")) and references:
            found.append((name, tuple(filter(is_uid, references))))
    return found
