"""Studies of made-up patients, and what goes wrong with each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from hospital.store.received import (
    Accession,
    Code,
    PatientId,
    PatientMerge,
    Received,
    ReceivedInstance,
    ReceivedObservation,
    ReceivedRejection,
    Status,
)
from tests.hospital.studies.records import instance, observation, order

SHARE = 0.03
"""Of the studies that meet each mishap."""


class Mishap(StrEnum):
    """What may go wrong with one study."""

    DUPLICATES = "duplicates"
    CHANGED = "changed instance"
    LATE = "late series"
    ABORTED = "sender aborted"
    MERGED = "patient merged amid it"
    SAME_NUMBER = "two issuers with one number"
    OWN_OBJECTS = "own results sent back"
    CORRECTED = "corrected value"
    WITHDRAWN = "withdrawn value"
    REJECTED = "rejected instance"
    SWAPPED = "one instance of another patient"
    REFUSED = "unreadable instance"
    GATEWAY_DIED = "gateway died"
    SERVICE_DIED = "service died"
    DELIVERY_DIED = "gateway died after sending"


@dataclass(frozen=True, slots=True)
class Event:
    """Records that arrive together, so many seconds after the study began."""

    after: float
    records: tuple[Received, ...]


@dataclass
class PlannedStudy:
    """A study, its mishaps, and what must come of it.

    Attributes
    ----------
    images : dict
        SOP Instance UID → digest, as the last answer must be about.
    values : list of float
        That the last answer must have been given.
    answered : bool
        Whether there may be an answer at all.
    """

    number: int
    uid: str
    patient: PatientId
    began: datetime
    mishaps: frozenset[Mishap]
    events: list[Event] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)
    values: list[float] = field(default_factory=list)
    answered: bool = True


def planned(number: int, began: datetime, rng: random.Random, share: float = SHARE) -> PlannedStudy:
    """One study with its mishaps."""
    mishaps = frozenset(mishap for mishap in Mishap if rng.random() < share)
    study = PlannedStudy(number, f"1.2.{number}", PatientId(f"P{number}", "WARD"), began, mishaps)
    instances = [_instance(study, index) for index in range(rng.randint(1, 3) + (Mishap.LATE in mishaps))]
    values = [_value(study, index, float(rng.randint(1, 300))) for index in range(rng.randint(0, 3))]
    study.images = {one.sop_instance: one.digest for one in instances}
    study.values = [one.value for one in values if one.value is not None]
    _plan_images(study, instances)
    _plan_values(study, values)
    study.events.sort(key=lambda event: event.after)
    return study


def _instance(study: PlannedStudy, index: int, content: str = "", **given: Any) -> ReceivedInstance:
    made = instance(
        index,
        content or str(study.number),
        study=study.uid,
        series=f"{study.uid}.1",
        patient=study.patient,
        accession=Accession(f"A{study.number}", "RIS"),
        acquired=study.began,
    )
    return replace(made, **({"sop_instance": f"{study.uid}.1.{index}"} | given))


def _value(study: PlannedStudy, index: int, value: float | None, **given: Any) -> ReceivedObservation:
    times = {"issued": study.began, "time": study.began - timedelta(hours=1 + index)}
    return observation(value, f"F{study.number}-{index}", **({"patient": study.patient} | times | given))


def _plan_images(study: PlannedStudy, instances: list[ReceivedInstance]) -> None:
    mishaps = study.mishaps
    last = instances[-1]
    early = instances[:-1] if Mishap.LATE in mishaps else instances
    if Mishap.ABORTED in mishaps:
        study.events.append(Event(0, tuple(early[:1])))
    for offset, one in enumerate(early):
        study.events.append(Event(5 + offset, (one,)))
    if Mishap.LATE in mishaps:
        study.events.append(Event(1200, (last,)))
    if Mishap.DUPLICATES in mishaps:
        study.events += [Event(at, tuple(instances)) for at in (8, 30, 1300, 2500)]
    for mishap, plan in _PLANS.items():
        if mishap in mishaps:
            plan(study, last)


def _changed(study: PlannedStudy, last: ReceivedInstance) -> None:
    again = _instance(study, int(last.sop_instance.rpartition(".")[2]), f"{study.number} changed")
    study.images[last.sop_instance] = again.digest
    study.events.append(Event(2600, (again,)))


def _rejected(study: PlannedStudy, last: ReceivedInstance) -> None:
    if len(study.images) == 1:
        return
    del study.images[last.sop_instance]
    note = ReceivedRejection(study.uid, (last.sop_instance,), Code("113001", "DCM"), study.began, "pacs")
    study.events.append(Event(2, (note,)))


def _swapped(study: PlannedStudy, last: ReceivedInstance) -> None:
    stranger = PatientId(f"S{study.number}", "WARD")
    study.events.append(Event(6, (_instance(study, 90, patient=stranger),)))
    study.answered = False


def _own(study: PlannedStudy, last: ReceivedInstance) -> None:
    study.events += [Event(at, (_instance(study, 95, ours=True),)) for at in (1, 1500)]


def _refused(study: PlannedStudy, last: ReceivedInstance) -> None:
    study.events.append(Event(7, (_instance(study, 80, "unreadable"),)))


_PLANS = {
    Mishap.CHANGED: _changed,
    Mishap.REJECTED: _rejected,
    Mishap.SWAPPED: _swapped,
    Mishap.OWN_OBJECTS: _own,
    Mishap.REFUSED: _refused,
}


def _plan_values(study: PlannedStudy, values: list[ReceivedObservation]) -> None:
    mishaps = study.mishaps
    if Mishap.SAME_NUMBER in mishaps:
        other = PatientId(study.patient.value, "CLINIC")
        study.events.append(Event(1, (_value(study, 7, 999.0, patient=other, source="clinic"),)))
        order_of_other = order("Somebody else's.", patient=other, accession=Accession(f"A{study.number}", "CLINIC"))
        study.events.append(Event(1, (order_of_other,)))
    whose = study.patient
    if Mishap.MERGED in mishaps and values:
        whose = PatientId(f"OLD{study.number}", "WARD")
        study.events.append(Event(700, (PatientMerge(study.patient, whose, "adt", study.began),)))
    study.events += [Event(index, (replace(one, patient=whose),)) for index, one in enumerate(values)]
    if values and Mishap.CORRECTED in mishaps:
        study.values[0] = 1000.0
        study.events.append(Event(800, (_later(study, 1000.0, whose, Status.CORRECTED, 1),)))
    if values and Mishap.WITHDRAWN in mishaps:
        study.values = study.values[1:]
        study.events.append(Event(900, (_later(study, None, whose, Status.WITHDRAWN, 2),)))


def _later(
    study: PlannedStudy, value: float | None, whose: PatientId, status: Status, version: int
) -> ReceivedObservation:
    issued = study.began + timedelta(minutes=version)
    return _value(study, 0, value, patient=whose, status=status, version=str(version + 1), issued=issued)


def timeline(studies: list[PlannedStudy]) -> Iterator[tuple[datetime, PlannedStudy, Event]]:
    """Everything that arrives, in its order."""
    events = [
        (study.began + timedelta(seconds=event.after), study.number, index, study, event)
        for study in studies
        for index, event in enumerate(study.events)
    ]
    for when, _, _, study, event in sorted(events, key=lambda one: one[:3]):
        yield when, study, event
