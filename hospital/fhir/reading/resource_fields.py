"""Fields of FHIR resources, of which any may be missing or of another type than the standard says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from consilium.domain.errors import InputError
from consilium.formats.time_zone import TimeZone
from consilium.formats.times import read_time
from hospital.store.received import Code, PatientId
from hospital.terminology.site_tables import Terminology

Resource = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """What is known where a resource is read.

    Attributes
    ----------
    patient : PatientId
        Whose records were asked for.
    source : str
        Name of the server in the configuration.
    received : datetime
    """

    patient: PatientId
    source: str
    received: datetime
    terminology: Terminology
    zone: TimeZone


def text(given: object, *path: str) -> str:
    """The text at the end of `path`, empty where there is none."""
    for key in path:
        given = given.get(key) if isinstance(given, dict) else None
    return given.strip() if isinstance(given, str) else ""


def objects(given: object, key: str) -> Iterator[Resource]:
    """The objects of a list."""
    listed = given.get(key) if isinstance(given, dict) else None
    yield from (one for one in listed if isinstance(one, dict)) if isinstance(listed, list) else ()


def codes(concept: object) -> list[Code]:
    """The codings of a CodeableConcept."""
    found = ((text(one, "code"), text(one, "system"), text(one, "display")) for one in objects(concept, "coding"))
    return [Code(value, system or None, meaning or None) for value, system, meaning in found if value]


def wording(concept: object) -> str:
    """The plain text of a CodeableConcept."""
    return text(concept, "text")


def identity(resource: Resource) -> str:
    """What identifies a resource at its server: ``Observation/17``."""
    return f"{text(resource, 'resourceType')}/{text(resource, 'id')}"


def version(resource: Resource) -> str:
    """Its versionId, else a digest of it."""
    whole = json.dumps(resource, sort_keys=True).encode()
    return text(resource, "meta", "versionId") or hashlib.sha256(whole).hexdigest()


def issued(resource: Resource, known: Reading) -> datetime:
    """When this version was made."""
    for path in (("meta", "lastUpdated"), ("issued",)):
        if (moment := instant(text(resource, *path), known.zone)) is not None:
            return moment
    return known.received


def instant(written: str, zone: TimeZone) -> datetime | None:
    """A dateTime or instant; None where it is a day, or none."""
    try:
        return read_time(written, "time", zone)[0]
    except InputError:
        return None


def effective(resource: Resource, known: Reading) -> datetime | None:
    """When something holds: effectiveDateTime, effectiveInstant, or the end, else the start, of effectivePeriod."""
    period = resource.get("effectivePeriod")
    written = (
        text(resource, "effectiveDateTime"),
        text(resource, "effectiveInstant"),
        text(period, "end"),
        text(period, "start"),
    )
    return next((moment for one in written if (moment := instant(one, known.zone)) is not None), None)


def day(written: str) -> date | None:
    """A whole date."""
    try:
        return date.fromisoformat(written)
    except ValueError:
        return None
