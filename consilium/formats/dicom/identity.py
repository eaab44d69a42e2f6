"""What a DICOM file says of who its patient and physicians are: given to the masking of notes, and kept nowhere."""

from __future__ import annotations

from collections.abc import MutableSequence

from pydicom.dataset import Dataset

IDENTITY_KEYWORDS = (
    *("PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "ResponsiblePerson"),
    *("ReferringPhysicianName", "PerformingPhysicianName", "ScheduledPerformingPhysicianName", "RequestingPhysician"),
    *("ConsultingPhysicianName", "OperatorsName", "NameOfPhysiciansReadingStudy", "PhysiciansOfRecord"),
    *("PatientID", "OtherPatientIDs", "AccessionNumber", "PatientTelephoneNumbers", "PatientAddress"),
)
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


def _values(dataset: Dataset, keyword: str) -> list[str]:
    try:
        value = dataset.get(keyword)
        return [] if value is None else [str(one) for one in (value if isinstance(value, MutableSequence) else [value])]
    except Exception:  # whatever pydicom raises on a broken value
        return []
