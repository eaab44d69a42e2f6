"""Observations: laboratory values and vital signs, each component by itself.

Source: FHIR R4, Observation; only final, amended and corrected ones are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from hospital.fhir.reading.resource_fields import (
    Reading,
    Resource,
    codes,
    effective,
    identity,
    issued,
    objects,
    text,
    version,
    wording,
)
from hospital.store.received import ReceivedObservation, Status
from hospital.terminology.values import Assessed, assess

STATUSES = {
    "final": Status.FINAL,
    "amended": Status.CORRECTED,
    "corrected": Status.CORRECTED,
    "appended": Status.CORRECTED,
    "preliminary": Status.PRELIMINARY,
    "partial": Status.PRELIMINARY,
    "cancelled": Status.WITHDRAWN,
    "entered-in-error": Status.WITHDRAWN,
}
"""Registered and unknown carry no result that may be used."""
_UCUM = "http://unitsofmeasure.org"
_VALUES = ("valueString", "valueInteger", "valueBoolean")


def values_of(
    resource: Resource, known: Reading, former: Iterable[ReceivedObservation] = ()
) -> list[ReceivedObservation]:
    """The values of an Observation: its own, and one for each component.

    Parameters
    ----------
    former : iterable of ReceivedObservation
        What was received of this patient before: components that an Observation does not have any more, or that it
        had before it was entered in error, are taken back.
    """
    status = STATUSES.get(text(resource, "status"))
    if status is None:
        return []
    key = identity(resource)
    found = [_value(part, f"{key}{suffix}", resource, status, known) for suffix, part in _parts(resource, status)]
    keys = {one.key for one in found}
    gone = [
        one
        for one in former
        if one.source == known.source and one.key not in keys and _is_part(one.key, key)
        if one.status is not Status.WITHDRAWN
    ]
    return found + [_taken_back(one, resource, known) for one in gone]


def _taken_back(former: ReceivedObservation, resource: Resource, known: Reading) -> ReceivedObservation:
    made = issued(resource, known)
    return replace(former, status=Status.WITHDRAWN, version=version(resource), issued=made, value=None, text=None)


def _is_part(key: str, of: str) -> bool:
    return key == of or key.startswith(f"{of}#")


def _parts(resource: Resource, status: Status) -> Iterator[tuple[str, Resource]]:
    """What has a value: the Observation itself unless it has components only, and each component by its code."""
    components = list(objects(resource, "component"))
    if not components or status is Status.WITHDRAWN or any(name.startswith("value") for name in resource):
        yield "", resource
    for number, component in enumerate(components):
        named = codes(component.get("code"))
        yield f"#{named[0].value if named else number}", component


def _value(part: Resource, key: str, resource: Resource, status: Status, known: Reading) -> ReceivedObservation:
    assessed = _assessed(part, known)
    time = effective(resource, known)
    if status is Status.WITHDRAWN:
        assessed = replace(assessed, value=None, text=None, problem=None)
    elif time is None and assessed.problem is None:
        assessed = replace(assessed, problem="its time (effective) is missing or is no time of day")
    return ReceivedObservation(
        patient=known.patient,
        accession=None,
        key=key,
        version=version(resource),
        status=status,
        issued=issued(resource, known),
        code=assessed.code,
        local_code=assessed.local_code,
        value=assessed.value,
        unit=assessed.unit,
        time=time,
        source=known.source,
        text=assessed.text,
        problem=assessed.problem,
    )


def _assessed(part: Resource, known: Reading) -> Assessed:
    named, terms = codes(part.get("code")), known.terminology
    quantity = part.get("valueQuantity")
    if isinstance(quantity, dict):
        ucum = text(quantity, "code") if text(quantity, "system") == _UCUM else ""
        units = dict.fromkeys(one for one in (ucum, text(quantity, "unit")) if one) or {"": None}
        tried = [assess(named, _number(quantity), unit, terms, text(quantity, "comparator") or None) for unit in units]
        return next((one for one in tried if one.problem is None), tried[0])
    concept = part.get("valueCodeableConcept")
    if isinstance(concept, dict):
        meant = [wording(concept), *(one.meaning or one.value for one in codes(concept))]
        tried = [assess(named, one, "", terms) for one in meant if one]
        return next((one for one in tried if one.problem is None), next(iter(tried), assess(named, None, "", terms)))
    for name in _VALUES:
        if name in part:
            return assess(named, _plain(part[name]), "", terms)
    other = next((name for name in part if name.startswith("value")), None)
    found = assess(named, None, "", terms)
    return found if other is None else replace(found, problem="its kind of value is not read")


def _number(quantity: Resource) -> float | None:
    value = quantity.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _plain(value: Any) -> float | str | None:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, int | float | str) else None
