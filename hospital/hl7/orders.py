"""Orders for imaging: ORM^O01, OMG^O19 and OMI^O23."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from consilium.domain.errors import InputError
from hospital.hl7.messages import Message, Segment
from hospital.hl7.source import Place, Source, places
from hospital.store.received import Code, PatientId, ReceivedOrder

_UID = re.compile(r"(?=.{1,64}\Z)[0-9]+(?:\.[0-9]+)+")
_CANCELLED = frozenset({"CA", "OC", "DC", "OD", "CR", "DR"})
"""Order control codes (table 0119): cancel and discontinue, asked for or done."""
_URGENT = frozenset({"S", "STAT", "A", "ASAP", "TS"})
_PRIORITIES = places("ORC-7.6", "OBR-27.6", "TQ1-9", "OBR-5")
_CONTROL, _STATUS = places("ORC-1", "ORC-5")


def read_orders(message: Message, source: Source, received: datetime) -> list[ReceivedOrder]:
    """Every order of a message.

    Raises
    ------
    InputError
        No patient, or no identifier in PID-3.
    """
    person = message.first("PID")
    if person is None:
        raise InputError("PID", "", "must be there")
    patient = source.patients(person, 3)[0]
    sent = message.header.time(7, source.zone) or received
    return [_order(group, patient, source, sent) for group in _groups(message)]


def _groups(message: Message) -> Iterator[list[Segment]]:
    """The segments of each order; what stands once in the message belongs to every order."""
    orders: list[list[Segment]] = []
    for segment in message.segments:
        if segment.name == "ORC" or (segment.name == "OBR" and (not orders or _has(orders[-1], "OBR"))):
            orders.append([])
        if orders:
            orders[-1].append(segment)
    for order in orders:
        shared = [one for name in ("ZDS", "IPC") for one in _only(message, name) if not _has(order, name)]
        yield [*order, *shared]


def _has(segments: list[Segment], name: str) -> bool:
    return any(segment.name == name for segment in segments)


def _only(message: Message, name: str) -> list[Segment]:
    found = list(message.all(name))
    return found if len(found) == 1 else []


def _order(group: list[Segment], patient: PatientId, source: Source, sent: datetime) -> ReceivedOrder:
    study = _first(group, source.study_places)
    urgent = any(_first(group, (place,)).upper() in _URGENT for place in _PRIORITIES)
    return ReceivedOrder(
        patient=patient,
        accession=source.accession(group, source.accession_places),
        study=study if study and _UID.fullmatch(study) else None,
        placer=_number(group, 2),
        filler=_number(group, 3),
        reason=_reason(group, source.reason_places),
        procedures=tuple(code for segment in group if segment.name == "OBR" for code in codes(segment, 4)),
        time=sent,
        source=source.name,
        priority="stat" if urgent else "routine",
        cancelled=_first(group, (_CONTROL,)) in _CANCELLED or _first(group, (_STATUS,)) == "CA",
    )


def _first(group: list[Segment], looked_at: tuple[Place, ...]) -> str:
    return next((text for place in looked_at for segment in group if (text := place.text(segment))), "")


def _number(group: list[Segment], field: int) -> str | None:
    """Placer's (2) or filler's (3) number with its namespace: ORC, else OBR."""
    for name in ("ORC", "OBR"):
        for segment in group:
            if segment.name == name and (value := segment.text(field)):
                return "^".join(one for one in (value, segment.text(field, 2)) if one)
    return None


def _reason(group: list[Segment], looked_at: tuple[Place, ...]) -> str | None:
    """The texts of all places that have one, each once."""
    texts = [text for place in looked_at for segment in group for text in _texts(segment, place)]
    return "\n".join(dict.fromkeys(texts)) or None


def _texts(segment: Segment, place: Place) -> Iterator[str]:
    """What a place says, one for each repetition: of a code its meaning."""
    if segment.name != place.segment:
        return
    for repetition in range(1, segment.repetitions(place.field) + 1):
        found = (segment.text(place.field, part, repetition=repetition) for part in (place.component, 2, 9))
        code, meaning, original = found
        text = original or meaning or code if place.component == 1 else code
        if text:
            yield text


def codes(segment: Segment, field: int) -> list[Code]:
    """The code of a field (CE, CWE) and its alternates."""
    found = [(segment.text(field, at), segment.text(field, at + 2), segment.text(field, at + 1)) for at in (1, 4, 10)]
    return [Code(value, system or None, meaning or None) for value, system, meaning in found if value]
