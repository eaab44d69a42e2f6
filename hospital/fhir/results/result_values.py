"""Codes and identifiers of the resources that results are written as. Sources: FHIR R4, HL7 AI Transparency on FHIR."""

from __future__ import annotations

import re
from typing import Any, TypeAlias
from urllib.parse import quote
from uuid import UUID

from consilium.output.reported import Presence, ReportedFinding, derived_uid

Json: TypeAlias = dict[str, Any]

URI = "urn:ietf:rfc:3986"
DICOM_UID = "urn:dicom:uid"
SNOMED = "http://snomed.info/sct"
LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
DICOM_CODES = "http://dicom.nema.org/resources/ontology/DCM"
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"

AI_ASSERTED: Json = {
    "system": f"{_TERMINOLOGY}/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}
"""A security label (`meta.security`), not a tag."""
IMAGING_CATEGORY: Json = {"coding": [{"system": f"{_TERMINOLOGY}/observation-category", "code": "imaging"}]}
RADIOLOGY: Json = {"coding": [{"system": f"{_TERMINOLOGY}/v2-0074", "code": "RAD", "display": "Radiology"}]}
IMAGING_REPORT: Json = {
    "coding": [{"system": LOINC, "code": "18748-4", "display": "Diagnostic imaging study"}],
    "text": "Findings of a model in an imaging study",
}
AUTHOR: Json = {"coding": [{"system": f"{_TERMINOLOGY}/provenance-participant-type", "code": "author"}]}
ACCESSION_TYPE: Json = {"coding": [{"system": f"{_TERMINOLOGY}/v2-0203", "code": "ACSN"}]}
PROBABILITY: Json = {"coding": [{"system": DICOM_CODES, "code": "122157", "display": "Probability"}]}

_ANSWERS = {
    Presence.PRESENT: (("121053", "Present"), ("52101004", "Present")),
    Presence.ABSENT: (("121054", "Absent"), ("2667000", "Absent")),
    Presence.UNDETERMINED: (("121059", "Presence Undetermined"), ("82334004", "Indeterminate")),
}
"""In DICOM's codes, as the structured report has it, and in SNOMED CT."""


def answer_concept(presence: Presence) -> Json:
    (dicom, display), (snomed, meaning) = _ANSWERS[presence]
    return {
        "coding": [
            {"system": DICOM_CODES, "code": dicom, "display": display},
            {"system": SNOMED, "code": snomed, "display": meaning},
        ],
        "text": display,
    }


def finding_concept(finding: ReportedFinding) -> Json:
    """The finding in SNOMED CT, where the model names a concept."""
    if finding.code is None:
        return {"text": finding.display}
    return {"coding": [{"system": SNOMED, "code": finding.code, "display": finding.display}], "text": finding.display}


def ratio(value: float) -> Json:
    """A number between 0 and 1 as a Quantity; never a percentage."""
    return {"value": value, "unit": "1", "system": UCUM, "code": "1"}


def uid_identifier(uid: str, system: str = URI) -> Json:
    return {"system": system, "value": f"urn:oid:{uid}"}


def search_of(identifier: Json) -> str:
    """The search that finds what has `identifier` and nothing else, whatever signs are in it."""
    return f"identifier={_searched(identifier['system'])}|{_searched(identifier['value'])}"


def _searched(words: str) -> str:
    """Escaped as FHIR's searches want it (3.1.1.4.0.1), then as URLs do."""
    return quote(re.sub(r"([\\$,|])", r"\\\1", words), safe=":/")


def derived_urn(*parts: str) -> str:
    """The ``urn:uuid:`` that is the same for the same `parts`."""
    return f"urn:uuid:{UUID(int=int(derived_uid(*parts).removeprefix('2.25.')))}"
