"""Registration: ADT messages that update a patient, merge two, or change an identifier."""

from __future__ import annotations

from datetime import datetime

from consilium.domain.errors import InputError
from consilium.domain.study import Sex
from hospital.hl7.messages import Message, Segment
from hospital.hl7.source import Source
from hospital.store.received import PatientMerge, PatientUpdate

UPDATES = frozenset({*(f"A{number:02}" for number in range(1, 9)), "A28", "A31"})
MERGES = frozenset({"A40", "A47"})
_SEXES = {"F": Sex.FEMALE, "M": Sex.MALE, "O": Sex.OTHER}


def read_update(message: Message, source: Source, received: datetime) -> PatientUpdate:
    """Birth date and sex.

    Raises
    ------
    InputError
        No patient, or no identifier in PID-3.
    """
    person = message.first("PID")
    if person is None:
        raise InputError("PID", "", "must be there")
    return PatientUpdate(
        patient=source.patients(person, 3)[0],
        birth_date=person.day(7),
        sex=_SEXES.get(person.text(8).upper(), Sex.UNKNOWN),
        source=source.name,
        time=_event_time(message, source, received),
    )


def read_merges(message: Message, source: Source, received: datetime) -> tuple[list[PatientMerge], list[str]]:
    """Every merge of a message (A40: PID stays, MRG goes; A47: PID is the new identifier), and warnings.

    Raises
    ------
    InputError
        No PID or MRG, or no identifier in one of them.
    """
    time = _event_time(message, source, received)
    merges: list[PatientMerge] = []
    warnings: list[str] = []
    for person, former in _pairs(message):
        staying = source.patients(person, 3)
        for goes in source.patients(former, 1):
            stays = next((one for one in staying if one.issuer == goes.issuer), staying[0])
            if stays == goes:
                # dcm4chee#1086: seen in the field.
                warnings.append("a merge of an identifier with itself is ignored")
            else:
                merges.append(PatientMerge(stays, goes, source.name, time))
    return merges, warnings


def _pairs(message: Message) -> list[tuple[Segment, Segment]]:
    """Each PID with the MRG that follows it."""
    pairs: list[tuple[Segment, Segment]] = []
    person: Segment | None = None
    for segment in message.segments:
        if segment.name == "PID":
            person = segment
        elif segment.name == "MRG" and person is not None:
            pairs.append((person, segment))
            person = None
    if not pairs:
        raise InputError("MRG", "", "must follow a PID segment in a merge")
    return pairs


def _event_time(message: Message, source: Source, received: datetime) -> datetime:
    """EVN-2, else MSH-7, else when it came."""
    event = message.first("EVN")
    recorded = event.time(2, source.zone) if event else None
    return recorded or message.header.time(7, source.zone) or received
