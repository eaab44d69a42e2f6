"""Which objects are accepted, in which encodings, and which of them are kept.

A sender that is refused one presentation context may send nothing at all of a study, so every storage class is
accepted; what is no image or waveform of the patient for a model to read is acknowledged, counted and not kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import uid
from pydicom.uid import UID
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from consilium.formats.dicom.pixels import DECODERS, NATIVE

SYNTAXES: tuple[UID, ...] = (
    *(uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian),
    *map(UID, DECODERS),
    uid.DeflatedExplicitVRLittleEndian,
)
"""What is read, in the order of choice: where a sender offers several, the first is taken."""
assert set(SYNTAXES) == {*NATIVE, *DECODERS}

COMMITMENT = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model: archives report by it what they keep of the gateway's results."""
PROCEDURE_STEP, AVAILABILITY = "1.2.840.10008.3.1.2.3.3", "1.2.840.10008.5.1.4.33"
"""Modality Performed Procedure Step, and Instance Availability Notification."""
KEY_OBJECTS = uid.KeyObjectSelectionDocumentStorage
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_STANDARD = "1.2.840.10008."
_NOT_KEPT = (
    f"{_STORAGE}9.4.",  # voice audio
    *(f"{_STORAGE}9.100.", f"{_STORAGE}11."),  # presentation states
    f"{_STORAGE}66",  # raw data, registrations, fiducials, segmentations, surfaces
    f"{_STORAGE}67",  # real world value mapping
    f"{_STORAGE}68.",  # surface scans
    *(f"{_STORAGE}77.1.{kind}." for kind in ("1.1", "2.1", "4.1")),  # videos
    f"{_STORAGE}88.",  # structured reports, key objects
    f"{_STORAGE}90.",  # content assessment
    f"{_STORAGE}104.",  # encapsulated PDF, CDA, models
    f"{_STORAGE}200.",  # CT performed procedure protocols
    f"{_STORAGE}201.",  # XA performed procedure protocols
    f"{_STORAGE}481.",  # radiotherapy, doses among them
)


def is_storage(sop_class: str) -> bool:
    """Whether objects of this class are accepted: all of DICOM's storage classes, and private classes."""
    return sop_class.startswith(_STORAGE) or not sop_class.startswith(_STANDARD)


def is_kept(sop_class: str) -> bool:
    """Whether objects of this class are written to the store."""
    return sop_class.startswith(_STORAGE) and not f"{sop_class}.".startswith(_NOT_KEPT)


def accepted_syntaxes(sop_class: str, offered: Sequence[UID]) -> tuple[UID, ...]:
    """The transfer syntaxes in which objects of this class are taken; of what is not kept, any."""
    if sop_class in (Verification, COMMITMENT, PROCEDURE_STEP, AVAILABILITY):
        return (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian)
    if not is_storage(sop_class):
        return ()
    return SYNTAXES if is_kept(sop_class) else (*SYNTAXES, *(one for one in offered if one not in SYNTAXES))
