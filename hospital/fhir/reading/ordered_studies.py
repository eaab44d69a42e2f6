"""ServiceRequest and Patient: orders for imaging, birth date and sex."""

from __future__ import annotations

import re

from consilium.domain.study import Sex
from hospital.fhir.reading.resource_fields import Reading, Resource, codes, day, instant, issued, objects, text, wording
from hospital.store.received import Accession, PatientUpdate, ReceivedOrder

_SEXES = {"female": Sex.FEMALE, "male": Sex.MALE, "other": Sex.OTHER}
_CANCELLED = frozenset({"revoked", "entered-in-error"})
_URGENT = frozenset({"urgent", "asap", "stat"})
_UID = re.compile(r"urn:oid:([0-9]+(?:\.[0-9]+)+)")


def update_of(resource: Resource, known: Reading) -> PatientUpdate:
    """Birth date, where it is a whole one, and sex."""
    return PatientUpdate(
        patient=known.patient,
        birth_date=day(text(resource, "birthDate")),
        sex=_SEXES.get(text(resource, "gender"), Sex.UNKNOWN),
        source=known.source,
        time=issued(resource, known),
    )


def order_of(resource: Resource, known: Reading, accession_issuer: str | None = None) -> ReceivedOrder | None:
    """The order, None where neither accession number nor Study Instance UID says which study it is for."""
    accession, study = _accession(resource, known, accession_issuer), _study(resource)
    if accession is None and study is None:
        return None
    written = instant(text(resource, "authoredOn"), known.zone)
    return ReceivedOrder(
        patient=known.patient,
        accession=accession,
        study=study,
        placer=_identifier(resource, "PLAC"),
        filler=_identifier(resource, "FILL") or text(resource, "id"),
        reason=_reason(resource),
        procedures=tuple(codes(resource.get("code"))),
        time=written or issued(resource, known),
        source=known.source,
        priority="stat" if text(resource, "priority") in _URGENT else "routine",
        cancelled=text(resource, "status") in _CANCELLED,
    )


def _kinds(identifier: Resource) -> set[str]:
    return {code.value for code in codes(identifier.get("type"))}


def _accession(resource: Resource, known: Reading, default: str | None) -> Accession | None:
    """The identifier of type ACSN."""
    for one in objects(resource, "identifier"):
        if "ACSN" in _kinds(one) and (value := text(one, "value")):
            issuers = known.terminology.issuers
            return Accession(value, issuers.name(text(one, "system")) or default)
    return None


def _study(resource: Resource) -> str | None:
    """The Study Instance UID, as FHIR writes it: ``urn:dicom:uid`` | ``urn:oid:...``."""
    for one in objects(resource, "identifier"):
        found = _UID.fullmatch(text(one, "value"))
        if text(one, "system") == "urn:dicom:uid" and found and len(found[1]) <= 64:
            return found[1]
    return None


def _identifier(resource: Resource, kind: str) -> str | None:
    return next((text(one, "value") for one in objects(resource, "identifier") if kind in _kinds(one)), None) or None


def _reason(resource: Resource) -> str | None:
    """Why it was ordered: the texts of reasonCode, each once."""
    texts = []
    for one in objects(resource, "reasonCode"):
        displays = [code.meaning for code in codes(one) if code.meaning]
        texts.append(wording(one) or ", ".join(displays))
    return "\n".join(dict.fromkeys(one for one in texts if one)) or None
