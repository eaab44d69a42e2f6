"""Results and notes: ORU^R01, every OBX looked at by itself.

Source: HL7 v2.5.1, 7.4.1 (OBR) and 7.4.2 (OBX), table 0085; HL7 Version 2 to FHIR for what a status means.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

from consilium.domain.errors import InputError
from consilium.formats.decimals import parse_decimal
from hospital.hl7.messages import Message, Segment
from hospital.hl7.orders import codes
from hospital.hl7.source import Source
from hospital.store.received import Accession, PatientId, ReceivedNote, ReceivedObservation, Status
from hospital.terminology.values import Assessed, assess

Earlier = Callable[[PatientId, str], ReceivedObservation | None]
"""The latest version of a value of this source that was received before, by patient and `ReceivedObservation.key`."""

_STATUSES = {
    "F": Status.FINAL,
    "U": Status.FINAL,
    "C": Status.CORRECTED,
    "A": Status.CORRECTED,
    "P": Status.PRELIMINARY,
    "D": Status.WITHDRAWN,
    "W": Status.WITHDRAWN,
    "X": Status.WITHDRAWN,
}
"""Table 0085; I, N, O, R, S, V and B carry no result that may be used."""
_CONFIRMED = "U"
"""Final now, and not sent again."""
_TEXTS = frozenset({"TX", "FT", "ST", "CE", "CWE", "CNE", "IS"})
_LONGEST_NOTE = 100_000


@dataclass(frozen=True)
class _Panel:
    """An OBR with its OBX."""

    patient: PatientId
    request: Segment | None
    order: Segment | None
    results: tuple[Segment, ...]

    @property
    def segments(self) -> list[Segment]:
        return [one for one in (self.order, self.request) if one is not None]

    @cached_property
    def number(self) -> str:
        """What its sender calls it: filler's order number, else placer's, else what was requested and when."""
        for segment in (self.request, self.order):
            for number in (3, 2):
                if segment is not None and (value := segment.text(number)):
                    return f"{value}^{segment.text(number, 2)}"
        request = self.request
        return f"{request.text(4)}@{request.text(7)}" if request else ""


@dataclass
class Results:
    """What a message holds, and how many of its OBX carry a status without a result."""

    values: list[ReceivedObservation] = field(default_factory=list)
    texts: list[ReceivedNote] = field(default_factory=list)
    unfinished: int = 0


def read_results(message: Message, content: bytes, source: Source, received: datetime, earlier: Earlier) -> Results:
    """Every value and note of a message.

    Parameters
    ----------
    content : bytes
        The message as it came; its digest is the version of what it holds.
    earlier : callable
        See `Earlier`.

    Raises
    ------
    InputError
        A result without a patient before it, or no identifier in PID-3.
    """
    sent = message.header.time(7, source.zone) or received
    reading = _Reading(source, hashlib.sha256(content).hexdigest(), sent, earlier)
    for panel in _panels(message, source):
        reading.add(panel)
    return reading.found


def _panels(message: Message, source: Source) -> Iterator[_Panel]:
    """Every OBR with its OBX, under the patient that stands before it."""
    patient: PatientId | None = None
    order: Segment | None = None
    request: Segment | None = None
    results: list[Segment] = []

    def panel() -> Iterator[_Panel]:
        if results and patient is None:
            raise InputError("PID", "", "must stand before the results")
        if results and patient is not None:
            yield _Panel(patient, request, order, tuple(results))
        results.clear()

    for segment in message.segments:
        if segment.name in ("PID", "ORC", "OBR"):
            yield from panel()
        if segment.name == "PID":
            patient, order, request = source.patients(segment, 3)[0], None, None
        elif segment.name == "ORC":
            order, request = segment, None
        elif segment.name == "OBR":
            request = segment
        elif segment.name == "OBX":
            results.append(segment)
    yield from panel()


class _Reading:
    """One message while it is read."""

    def __init__(self, source: Source, version: str, sent: datetime, earlier: Earlier) -> None:
        self._source = source
        self._version = version
        self._sent = sent
        self._earlier = earlier
        self.found = Results()

    def add(self, panel: _Panel) -> None:
        """Take the values and notes of one panel."""
        occurrences = Counter[str]()
        texts: dict[tuple[str, str], list[Segment]] = {}
        for result in panel.results:
            name = f"{panel.number}/{result.text(3) or result.text(3, 4)}/{result.text(4)}"
            kind = self._note_kind(panel, result)
            if kind is not None:
                # A text is sent in lines, an OBX each, which a number in OBX-4 may count.
                texts.setdefault((f"{panel.number}/{result.text(3) or result.text(3, 4)}", kind), []).append(result)
                continue
            occurrences[name] += 1
            key = name if occurrences[name] == 1 else f"{name}#{occurrences[name]}"
            self._add_value(panel, result, key)
        for (key, kind), lines in texts.items():
            self._add_note(panel, key, kind, lines)

    def _note_kind(self, panel: _Panel, result: Segment) -> str | None:
        """The kind of note that a text is; None of a value, and of what is no note at the site."""
        if result.text(2) not in _TEXTS:
            return None
        documents = self._source.terminology.documents
        return documents.of(codes(result, 3)) or (documents.of(codes(panel.request, 4)) if panel.request else None)

    def _add_value(self, panel: _Panel, result: Segment, key: str) -> None:
        letter = _status_letter(panel, result)
        status = _STATUSES.get(letter)
        if status is None:
            self.found.unfinished += 1
            return
        assessed = _assessed(result, self._source)
        time = _time(panel, result, self._source)
        if letter == _CONFIRMED and not result.free_text(5):
            confirmed = self._earlier(panel.patient, key)
            if confirmed is not None and confirmed.status is Status.PRELIMINARY:
                issued = self._issued(panel)
                self.found.values.append(replace(confirmed, status=Status.FINAL, version=self._version, issued=issued))
                return
            assessed = replace(assessed, problem="it was confirmed without a value, and none was received before")
        if status is Status.WITHDRAWN:
            assessed = replace(assessed, value=None, text=None, problem=None)
        elif time is None and assessed.problem is None:
            assessed = replace(assessed, problem="its time (OBX-14, OBR-7) is missing or is no time of day")
        self.found.values.append(
            ReceivedObservation(
                patient=panel.patient,
                accession=self._accession(panel),
                key=key,
                version=self._version,
                status=status,
                issued=self._issued(panel),
                code=assessed.code,
                local_code=assessed.local_code,
                value=assessed.value,
                unit=assessed.unit,
                time=time,
                source=self._source.name,
                text=assessed.text,
                problem=assessed.problem,
            )
        )

    def _add_note(self, panel: _Panel, key: str, kind: str, lines: list[Segment]) -> None:
        status = _STATUSES.get(_status_letter(panel, lines[-1]))
        if status is None:
            self.found.unfinished += 1
            return
        text = "\n".join(line.free_text(5) for line in lines).strip()
        problem = self._note_problem(panel, text)
        self.found.texts.append(
            ReceivedNote(
                patient=panel.patient,
                accession=self._accession(panel),
                key=key,
                version=self._version,
                status=status,
                issued=self._issued(panel),
                kind=kind,
                text="" if problem else text,
                time=_time(panel, lines[0], self._source),
                source=self._source.name,
                problem=problem,
            )
        )

    def _note_problem(self, panel: _Panel, text: str) -> str | None:
        if panel.request is not None and panel.request.text(24).upper() in self._source.radiology_sections:
            return "it is a report of images (OBR-24), which gives the answer away"
        if len(text) > _LONGEST_NOTE:
            return f"it has more than {_LONGEST_NOTE} characters"
        return None if text else "it is empty"

    def _issued(self, panel: _Panel) -> datetime:
        """When this version was made: OBR-22, else when it was sent."""
        changed = panel.request.time(22, self._source.zone) if panel.request else None
        return changed or self._sent

    def _accession(self, panel: _Panel) -> Accession | None:
        return self._source.accession(panel.segments, self._source.result_accession_places)


def _status_letter(panel: _Panel, result: Segment) -> str:
    """OBX-11, else the status of the whole (OBR-25)."""
    return (result.text(11) or (panel.request.text(25) if panel.request else "")).upper()


def _time(panel: _Panel, result: Segment, source: Source) -> datetime | None:
    """OBX-14, else OBR-7; never when the message was sent or the result reported."""
    if result.text(14):
        return result.time(14, source.zone)
    return panel.request.time(7, source.zone) if panel.request else None


def _assessed(result: Segment, source: Source) -> Assessed:
    named, unit = codes(result, 3), result.text(6) or result.text(6, 2)
    kind, terms = result.text(2), source.terminology
    if result.repetitions(5) > 1:
        return replace(assess(named, None, unit, terms), problem="it has more than one value")
    if kind == "SN":
        comparator, number, separator = result.text(5), result.text(5, 2), result.text(5, 3)
        if separator or result.text(5, 4):
            return replace(assess(named, None, unit, terms), problem="a range or ratio is not a value")
        return assess(named, number, unit, terms, comparator if comparator != "=" else None)
    if kind in ("CE", "CWE", "CNE"):
        code, meaning = result.text(5), result.text(5, 2)
        found = assess(named, meaning or code, unit, terms)
        # A code that is a number is none of what it stands for.
        return (
            found if found.problem is None or parse_decimal(code) else _better(found, assess(named, code, unit, terms))
        )
    if kind not in ("NM", *_TEXTS, ""):
        return replace(assess(named, None, unit, terms), problem=f"values of type {kind[:3]} are not read")
    return assess(named, result.text(5), unit, terms)


def _better(one: Assessed, other: Assessed) -> Assessed:
    """The one that can be used, `one` where neither can."""
    return other if other.problem is None else one
