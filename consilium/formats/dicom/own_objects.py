"""What marks a DICOM object as one that this project wrote, so that no result is ever read as a record of a study."""

from __future__ import annotations

from pydicom.dataset import Dataset

from consilium.formats.dicom.elements import sequence_items
from consilium.formats.dicom.header import optional_text

MANUFACTURER = "Consilium"
"""Manufacturer (0008,0070) of every object that is written, and in its Contributing Equipment."""
OWN_OBJECT_KEYWORDS = ("Manufacturer", "SecondaryCaptureDeviceManufacturer", "ContributingEquipmentSequence")
_MARKS = OWN_OBJECT_KEYWORDS[:2]


def is_own_object(dataset: Dataset) -> bool:
    """Whether the object, or one that it was made from, is a result of this project.

    It carries the name in three places, of which archives that rewrite attributes leave one at least.
    """
    return any(_ours(dataset, keyword) for keyword in _MARKS) or any(
        _ours(item, "Manufacturer") for item in sequence_items(dataset, "ContributingEquipmentSequence")
    )


def _ours(dataset: Dataset, keyword: str) -> bool:
    return optional_text(dataset, keyword).casefold() == MANUFACTURER.casefold()
