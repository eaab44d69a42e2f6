"""What one sender of HL7 is to the gateway, and where its messages say what."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from consilium.domain.errors import InputError
from consilium.formats.time_zone import TimeZone, site_zone
from hospital.hl7.messages import Segment
from hospital.store.received import Accession, PatientId
from hospital.terminology.site_tables import Terminology

_PLACE = re.compile(r"([A-Z][A-Z0-9]{2})-(\d{1,3})(?:\.(\d{1,2})(?:\.(\d{1,2}))?)?")
_FOREIGN_TYPES = frozenset({"SS", "DL", "PPN", "NI", "NH", "MC", "MA", "AN", "VN"})
"""Identifier types (table 0203) that name no patient of the hospital: national, insurance, account, visit numbers."""

RADIOLOGY = frozenset({"RAD", "RX", "RUS", "OUS", "VUS", "CUS", "CT", "NMR", "NMS", "MR", "XRC", "IMG"})
"""Diagnostic sections (table 0074) whose texts describe images, and how senders write them."""


@dataclass(frozen=True, slots=True)
class Place:
    """A field of a segment: ``OBR-18``, ``ZDS-1.1``, ``IPC-1``."""

    segment: str
    field: int
    component: int = 1
    subcomponent: int = 1

    @classmethod
    def named(cls, text: str) -> Place:
        """The place that `text` names; `InputError` where it names none."""
        found = _PLACE.fullmatch(text)
        if not found or not int(found[2]):
            raise InputError("place", text, "must name a field of a segment, such as OBR-18 or ZDS-1.1")
        return cls(found[1], int(found[2]), int(found[3] or 1), int(found[4] or 1))

    def text(self, segment: Segment) -> str:
        """What stands there, empty where `segment` is another."""
        return segment.text(self.field, self.component, self.subcomponent) if segment.name == self.segment else ""


def places(*names: str) -> tuple[Place, ...]:
    """The places that are named, in the order in which they are looked at."""
    return tuple(Place.named(name) for name in names)


@dataclass(frozen=True)
class Source:
    """One sender.

    Attributes
    ----------
    name : str
        Of the peer in the configuration.
    zone : TimeZone
        In which its times without an offset are meant.
    encoding : str, optional
        Python's name of the encoding in which it writes without declaring it.
    patient_issuer, accession_issuer : str, optional
        Who issued identifiers that come without an authority.
    accession_places, study_places, reason_places : tuple of Place
        Where orders carry accession number, Study Instance UID and the reason for the study.
    result_accession_places : tuple of Place
        The same for results. Laboratories number orders of their own: none by default.
    radiology_sections : frozenset of str
        Diagnostic sections (OBR-24, table 0074) whose texts are reports of images and never notes.
    """

    name: str
    terminology: Terminology = field(default_factory=Terminology)
    zone: TimeZone = field(default_factory=site_zone)
    encoding: str | None = None
    patient_issuer: str | None = None
    accession_issuer: str | None = None
    accession_places: tuple[Place, ...] = places("OBR-18", "IPC-1")
    study_places: tuple[Place, ...] = places("ZDS-1", "IPC-3")
    reason_places: tuple[Place, ...] = places("OBR-31", "OBR-13")
    result_accession_places: tuple[Place, ...] = ()
    radiology_sections: frozenset[str] = RADIOLOGY

    def patients(self, segment: Segment, number: int) -> list[PatientId]:
        """The patient's identifiers of PID-3 or MRG-1: first those whose assigning authority is configured.

        Left out are identifiers of a kind that names no patient of a hospital.

        Raises
        ------
        InputError
            There is none.
        """
        known: list[PatientId] = []
        others: list[PatientId] = []
        for repetition in range(1, segment.repetitions(number) + 1):
            value = segment.text(number, repetition=repetition)
            authority = [segment.text(number, 4, part, repetition=repetition) for part in (1, 2)]
            issuers = self.terminology.issuers
            if value and (issuer := issuers.known(*authority)) is not None:
                known.append(PatientId(value, issuer))
            elif value and segment.text(number, 5, repetition=repetition) not in _FOREIGN_TYPES:
                others.append(PatientId(value, issuers.name(*authority) or self.patient_issuer))
        if not known and not others:
            raise InputError(f"{segment.name}-{number}", "", "must hold an identifier of the patient")
        return [*known, *others]

    def accession(self, segments: list[Segment], looked_at: tuple[Place, ...]) -> Accession | None:
        """The accession number of the first place that has one; its issuer is the field's second component."""
        for place in looked_at:
            for segment in segments:
                if value := place.text(segment):
                    authority = [segment.text(place.field, 2, 1), segment.text(place.field, 3, 1)]
                    own = place.component == 1 and any(authority)
                    issuer = self.terminology.issuers.name(*authority) if own else self.accession_issuer
                    return Accession(value, issuer)
        return None
