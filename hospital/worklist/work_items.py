"""A work item as its worklist shows it: Unified Procedure Step in DICOM JSON. Source: PS3.3 C.30, PS3.18 F."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydicom.uid import UID

from consilium.formats.time_zone import TimeZone
from consilium.formats.times import dicom_datetime, file_time

DataSet = Mapping[str, Any]
"""A data set in the DICOM JSON model."""

INSTANCE = "00080018"
STATE = "00741000"
READINESS = "00404041"
WORKITEM_CODE = "00404018"
STATION_CODE = "00404025"
_PROGRESS, _PERFORMED = "00741002", "00741216"
_OF_CANCELLATION = ("00741238", "0074100E", "00404052")
"""Reason For Cancellation, its code sequence, and Procedure Step Cancellation DateTime."""
_PRIORITIES = ("HIGH", "MEDIUM", "LOW")
_LONGEST = 256


@dataclass(frozen=True, slots=True)
class CodedConcept:
    """Code Value, Coding Scheme Designator, Code Meaning."""

    value: str
    scheme: str
    meaning: str

    def as_json(self) -> DataSet:
        parts = {"00080100": ("SH", self.value), "00080102": ("SH", self.scheme), "00080104": ("LO", self.meaning)}
        return {tag: {"vr": vr, "Value": [value]} for tag, (vr, value) in parts.items()}


@dataclass(frozen=True, slots=True)
class WorkItem:
    """What of a work item decides whether and how it is done.

    Attributes
    ----------
    item : str
        Its UID.
    state : str
        ``SCHEDULED``, ``IN PROGRESS``, ``COMPLETED`` or ``CANCELED``.
    ready : bool
        Whether its input is all there.
    code : CodedConcept, optional
        What is to be done.
    stations : frozenset of str
        Code values of who may do it; empty: anybody.
    start : datetime, optional
        When it is to begin.
    patient : str, optional
        Patient ID.
    studies : tuple of str
        Study Instance UIDs of its input.
    priority : str
    cancel_requested : bool
        Whether the worklist has noted that somebody asked for its cancellation. No standard says that one must.
    """

    item: str
    state: str
    ready: bool
    code: CodedConcept | None
    stations: frozenset[str]
    start: datetime | None
    patient: str | None = field(repr=False)
    studies: tuple[str, ...]
    priority: str = "MEDIUM"
    cancel_requested: bool = False

    @property
    def rank(self) -> int:
        """By which work items are claimed: the lowest first."""
        return _PRIORITIES.index(self.priority)


def read_work_item(given: DataSet, zone: TimeZone) -> WorkItem | None:
    """The work item that a data set describes; None where it has no UID.

    Parameters
    ----------
    zone : TimeZone
        Of times that come without an offset.
    """
    item = text_of(given, INSTANCE)
    if not _is_uid(item):
        return None
    start = dicom_datetime(text_of(given, "00404005"))
    priority = text_of(given, "00741200")
    inputs = [text_of(one, "0020000D") for one in items_of(given, "00404021")]
    return WorkItem(
        item=item,
        state=text_of(given, STATE),
        ready=text_of(given, READINESS) == "READY",
        code=next(_codes(given, WORKITEM_CODE), None),
        stations=frozenset(one.value for one in _codes(given, STATION_CODE)),
        start=file_time(start, "ScheduledProcedureStepStartDateTime", zone)[0],
        patient=text_of(given, "00100020") or None,
        studies=tuple(dict.fromkeys(one for one in inputs if _is_uid(one))),
        priority=priority if priority in _PRIORITIES else "MEDIUM",
        cancel_requested=_is_cancel_requested(given),
    )


def _is_cancel_requested(given: DataSet) -> bool:
    """Whether a reason for cancellation stands where no performer has ended the work: it writes both at once."""
    places = [given, *items_of(given, _PROGRESS)]
    noted = any(_values(place, tag) for place in places for tag in _OF_CANCELLATION)
    return noted and not items_of(given, _PERFORMED)


def text_of(given: DataSet, tag: str) -> str:
    """The first value of an element as text; empty where there is none."""
    values = _values(given, tag)
    return str(values[0]).strip(" \0")[:_LONGEST] if values and isinstance(values[0], str | int) else ""


def items_of(given: DataSet, tag: str) -> list[DataSet]:
    """The items of a sequence."""
    return [one for one in _values(given, tag) if isinstance(one, dict)]


def _values(given: DataSet, tag: str) -> list[Any]:
    element = given.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _codes(given: DataSet, tag: str) -> Iterator[CodedConcept]:
    for one in items_of(given, tag):
        if value := text_of(one, "00080100"):
            yield CodedConcept(value, text_of(one, "00080102"), text_of(one, "00080104"))


def _is_uid(shown: str) -> bool:
    return UID(shown).is_valid
