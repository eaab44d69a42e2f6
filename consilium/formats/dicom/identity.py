"""What a DICOM file says of patient, physicians, order, device and site: for masking and pseudonyms, kept nowhere."""

from __future__ import annotations

from collections.abc import MutableSequence

from pydicom.dataset import Dataset

from consilium.domain.study import accession_digest, identifier_digest
from consilium.formats.dicom.elements import sequence_items

IDENTITY_KEYWORDS = (
    *("PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "ResponsiblePerson"),
    *("ReferringPhysicianName", "PerformingPhysicianName", "ScheduledPerformingPhysicianName", "RequestingPhysician"),
    *("ConsultingPhysicianName", "OperatorsName", "NameOfPhysiciansReadingStudy", "PhysiciansOfRecord"),
    *("PatientID", "OtherPatientIDs", "AccessionNumber", "PatientTelephoneNumbers", "PatientAddress"),
)
ORIGIN_KEYWORDS = (
    *("Manufacturer", "ManufacturerModelName", "StationName", "InstitutionName"),
    *("AccessionNumber", "IssuerOfAccessionNumberSequence", "IssuerOfPatientID"),
)
_DEVICE = ORIGIN_KEYWORDS[:3]
_ISSUER = ("LocalNamespaceEntityID", "UniversalEntityID")
_MOST_NAMES = 64
_LONGEST = 256


def names_of(dataset: Dataset) -> tuple[str, ...]:
    """Names and identifiers in the order of `IDENTITY_KEYWORDS`, each once; what cannot be read names nobody."""
    found: dict[str, None] = {}
    for keyword in IDENTITY_KEYWORDS:
        for value in _values(dataset, keyword):
            if value.strip() and len(value) <= _LONGEST:
                found[value.strip()] = None
    return tuple(found)[:_MOST_NAMES]


def patient_label(dataset: Dataset) -> str | None:
    """Name and id of the patient in one line, for whoever reads the image; None where the file has neither."""
    name = " ".join(_text(dataset, "PatientName").partition("=")[0].replace("^", " ").split())
    parts = [part[:_LONGEST] for part in (name, _text(dataset, "PatientID")) if part]
    label = "".join(character if character.isprintable() else " " for character in " · ".join(parts))
    return label or None


def device_digest(dataset: Dataset) -> str | None:
    """SHA-256 of manufacturer, model and station together; None where there is none of them."""
    words = [_text(dataset, keyword) for keyword in _DEVICE]
    return identifier_digest("\0".join(words)) if any(words) else None


def site_digest(dataset: Dataset) -> str | None:
    """SHA-256 of the institution's name; None where there is none."""
    return identifier_digest(_text(dataset, "InstitutionName"))


def order_digest(dataset: Dataset) -> str | None:
    """`accession_digest` of the accession number and, where it is named, its issuer (0008,0051)."""
    items = sequence_items(dataset, "IssuerOfAccessionNumberSequence")
    issuers = [found for item in items[:1] for keyword in _ISSUER if (found := _text(item, keyword))]
    return accession_digest(_text(dataset, "AccessionNumber"), *issuers[:1])


def _text(dataset: Dataset, keyword: str) -> str:
    return next((value.strip() for value in _values(dataset, keyword)), "")


def _values(dataset: Dataset, keyword: str) -> list[str]:
    try:
        value = dataset.get(keyword)
        return [] if value is None else [str(one) for one in (value if isinstance(value, MutableSequence) else [value])]
    except Exception:  # whatever pydicom raises on a broken value
        return []
