"""A study's records become the request to the service."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from consilium.domain.study import Sex
from consilium.formats.demographics import age_at
from hospital.store.received import ReceivedInstance, ReceivedNote, ReceivedObservation, ReceivedOrder
from hospital.studies.rules.clock_checks import StudyTime
from hospital.studies.rules.matching import MatchedRecords, within
from hospital.studies.rules.model_inputs import ModelInputs
from hospital.studies.rules.revision_digest import revision_sources

_RECORD = re.compile(r"(images|observations|notes)\[(\d+)\]")
_MOST_NAMES, _LONGEST_NAME = 32, 200


@dataclass(frozen=True, slots=True)
class StudyRequest:
    """What the service is asked of one study.

    Attributes
    ----------
    images : tuple of ReceivedInstance
        Whose files are sent, in this order.
    records : mapping
        The request's JSON, but for names.
    names : tuple of str
        Identifiers of the patient, to be masked in notes. They make no other revision.
    warnings : tuple of str
        What a reader of the answer has to know of what was left out.
    """

    images: tuple[ReceivedInstance, ...]
    records: Mapping[str, Any]
    names: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def sources(self, model_digest: str) -> dict[str, object]:
        """What the answer depends on: see `revision_sources`."""
        return revision_sources(self.images, self.records, model_digest)

    @property
    def json(self) -> dict[str, Any]:
        """What `consilium.api.client` takes beside the images."""
        patient = {**self.records.get("patient", {}), **({"names": list(self.names)} if self.names else {})}
        return {**self.records, **({"patient": patient} if patient else {})}

    def without(self, field: str, rule: str) -> StudyRequest | None:
        """The request without the record that the service refused by `field`; None where that names no record.

        The `rule` tells a reader why, without a value.
        """
        found = _RECORD.match(field)
        if found is None:
            return None
        kind, position = found[1], int(found[2])
        held: Sequence[Any] = self.images if kind == "images" else self.records.get(kind, ())
        if position >= len(held):
            return None
        what = " ".join(filter(None, (field[found.end() :].lstrip("."), rule)))
        warned = (*self.warnings, f"{_WORDS[kind]} left out, the service refused it: {what}")
        others = tuple(one for number, one in enumerate(held) if number != position)
        if kind == "images":
            return replace(self, images=others, warnings=warned)
        kept = {name: value for name, value in self.records.items() if name != kind}
        return replace(self, records={**kept, **({kind: list(others)} if others else {})}, warnings=warned)


_WORDS = {"images": "an image was", "observations": "a value was", "notes": "a note was"}


def study_request(
    images: Sequence[ReceivedInstance], matched: MatchedRecords, when: StudyTime, reads: ModelInputs
) -> StudyRequest:
    """What the service is asked of a study.

    Parameters
    ----------
    images : sequence of ReceivedInstance
        The study's images that count.
    matched : MatchedRecords
        What belongs to it beside them.
    when : StudyTime
        When it was made.
    reads : ModelInputs
        What the model reads, and how much one request may hold.
    """
    used, warnings = _within_limits(images, reads)
    notes = [_note(note) for note in matched.notes] + _indications(matched.orders, when, reads)
    observations = [_observation(one) for one in matched.observations]
    records: dict[str, Any] = {
        "observations": observations[-reads.observations :],
        "notes": notes[-reads.notes :],
        "patient": _patient(used, matched, when.reference),
        "reference_time": when.reference.isoformat() if when.corrected and when.reference else None,
    }
    return StudyRequest(
        tuple(used),
        {name: value for name, value in records.items() if value},
        _names(images, matched),
        (*when.warnings, *matched.warnings, *warnings),
    )


def _within_limits(images: Sequence[ReceivedInstance], reads: ModelInputs) -> tuple[list[ReceivedInstance], list[str]]:
    """As many as one request may hold: the earliest ones."""
    latest = datetime.max.replace(tzinfo=UTC)
    ordered = sorted(images, key=lambda one: (one.description.acquired or latest, one.sop_instance))
    if len(ordered) <= reads.images:
        return ordered, []
    return ordered[: reads.images], [f"{len(ordered)} images: the model was given the first {reads.images}"]


def _observation(one: ReceivedObservation) -> dict[str, Any]:
    record = {"code": one.code, "value": one.text if one.value is None else one.value, "unit": one.unit or ""}
    return record | ({"time": one.time.isoformat()} if one.time else {})


def _note(note: ReceivedNote) -> dict[str, Any]:
    return {"kind": note.kind, "text": note.text} | ({"time": note.time.isoformat()} if note.time else {})


def _indications(orders: Sequence[ReceivedOrder], when: StudyTime, reads: ModelInputs) -> list[dict[str, Any]]:
    """Why the study was ordered: by its own order, therefore also where that is older than the model's window."""
    if "indication" not in reads.note_kinds:
        return []
    known = [order for order in orders if order.reason and (when.reference is None or order.time <= when.reference)]
    return [
        {"kind": "indication", "text": order.reason}
        | ({"time": order.time.isoformat()} if within(order.time, when.reference, reads.window) else {})
        for order in sorted(known, key=lambda one: one.time)
    ]


def _patient(images: Sequence[ReceivedInstance], matched: MatchedRecords, reference: datetime | None) -> dict[str, Any]:
    """Age and sex of the record system, where no image gives them: the service reads those of images itself."""
    patient: dict[str, Any] = {}
    told = [image.description for image in images]
    if all(one.age is None and one.birth_date is None for one in told) and matched.birth_date and reference:
        age = age_at(matched.birth_date, reference.date())
        patient |= {} if age is None else {"age": age}
    if all(one.sex is Sex.UNKNOWN for one in told) and matched.sex is not Sex.UNKNOWN:
        patient["sex"] = matched.sex.value
    return patient


def _names(images: Sequence[ReceivedInstance], matched: MatchedRecords) -> tuple[str, ...]:
    """Identifiers that texts may quote; names of persons stand in the images, where the service reads them."""
    records: list[ReceivedInstance | ReceivedObservation | ReceivedNote | ReceivedOrder]
    records = [*images, *matched.observations, *matched.notes, *matched.orders]
    values = [record.patient.value for record in records if record.patient is not None]
    values += [record.accession.value for record in records if record.accession is not None]
    return tuple(sorted({value for value in values if 0 < len(value) <= _LONGEST_NAME}))[:_MOST_NAMES]
