"""What a route's destinations are sent of an answer: each kind of destination has its builder."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from consilium.formats.time_zone import TimeZone
from hospital.configuration.gateway_settings import GatewaySettings
from hospital.configuration.route_settings import DicomDestination, FhirDestination, Hl7Destination, StowDestination
from hospital.fhir.results.bundle import FhirResult, PatientIdentifier, result_bundle
from hospital.hl7.report_message import ReportMessage
from hospital.store.state import Delivery
from hospital.studies.answered_study import AnsweredStudy
from hospital.studies.dicom_results import DicomResults

logger = logging.getLogger("consilium.gateway")


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, what was made of it so far, and the settings."""

    settings: GatewaySettings
    study: AnsweredStudy
    made: DicomResults


Builder = Callable[[str, Any, Answered], Sequence[Delivery]]
"""Of a destination's name, its settings, and an answer."""


def dicom_objects(name: str, destination: DicomDestination | StowDestination, answered: Answered) -> Sequence[Delivery]:
    """Structured report, Secondary Capture and segmentations, as the destination takes them."""
    return answered.made.deliveries(name, destination.objects)


def hl7_message(name: str, destination: Hl7Destination, answered: Answered) -> Sequence[Delivery]:
    """One ORU^R01."""
    study, source = answered.study, answered.made.result.sources[0].dataset
    patient, order = study.patient, next(iter(study.orders), None)
    message = ReportMessage(
        reported=answered.made.reported,
        study=study.study,
        patient=str(source.PatientID) if patient is None else patient.value,
        authority=_namespace(answered.settings, None if patient is None else patient.issuer),
        created=study.created,
        name=str(source.PatientName),
        birth_date=str(source.PatientBirthDate),
        sex=str(source.PatientSex),
        placer=(order and order.placer) or "",
        filler=(order and order.filler) or "",
        accession=study.accession.value if study.accession else "",
        taken=study.taken,
        application=destination.application,
        facility=destination.facility,
        number=study.revision.number,
    )
    content = message.content()
    return [Delivery(message.control_id, name, "oru", content, study.study, study.revision.revision)]


def fhir_transaction(name: str, destination: FhirDestination, answered: Answered) -> Sequence[Delivery]:
    """One transaction; for a patient whom the server knows by no identifier, a dead letter that says so."""
    study, made = answered.study, answered.made
    server = answered.settings.fhir[destination.server]
    patient, revision = study.patient, study.revision.revision
    if patient is None or server.patient_system is None or patient.issuer != server.patient_issuer:
        logger.warning("%s knows the patient of a study by no identifier: it is sent no result", name)
        problem = f"the patient has no identifier of {server.patient_issuer}, by which {destination.server} knows one"
        return [Delivery(revision, name, "bundle", b"", study.study, revision, problem=problem)]
    bundle = result_bundle(
        FhirResult(
            reported=made.reported,
            study=study.study,
            patient=PatientIdentifier(server.patient_system, patient.value),
            created=study.created,
            taken=study.taken,
            accession=_order(answered),
            number=study.revision.number,
            previous=None if made.previous is None else made.previous.reported,
            structured_report=made.reported.uid("sr") if _archived(answered) else None,
        )
    )
    return [Delivery(revision, name, "bundle", json.dumps(bundle).encode(), study.study, revision)]


def _order(answered: Answered) -> tuple[str | None, str] | None:
    """The accession number, under the URI of its issuer where the configuration has one."""
    accession = answered.study.accession
    return None if accession is None else (_system(answered.settings, accession.issuer), accession.value)


def _system(settings: GatewaySettings, issuer: str | None) -> str | None:
    given = settings.identifiers.get(issuer or "")
    names: Sequence[str] = () if given is None else given.known_as
    uris = [name for name in names if name.startswith(("urn:", "http:", "https:"))]
    oids = [f"urn:oid:{name}" for name in names if name.replace(".", "").isdigit() and "." in name]
    return next(iter([*uris, *oids]), None)


def _archived(answered: Answered) -> bool:
    """Whether an archive is sent the structured report."""
    named = [answered.settings.destinations[name] for name in answered.study.destinations]
    return any("sr" in one.objects for one in named if isinstance(one, DicomDestination | StowDestination))


def _namespace(settings: GatewaySettings, issuer: str | None) -> str:
    """What other systems call an issuer: the first of its names in the configuration."""
    known = settings.identifiers.get(issuer or "")
    return (issuer or "") if known is None else known.known_as[0]


BUILDERS: Mapping[str, Builder] = {
    "dicom": dicom_objects,
    "stow": dicom_objects,
    "hl7": hl7_message,
    "fhir": fhir_transaction,
}
"""By the kind of a destination."""


@dataclass(frozen=True, slots=True)
class ResultObjects:
    """Makes what all destinations of a study are sent, `hospital.studies.answered_study.BuildDeliveries`."""

    settings: GatewaySettings
    builders: Mapping[str, Builder] = field(default_factory=lambda: BUILDERS)

    def __call__(self, study: AnsweredStudy) -> list[Delivery]:
        answered = Answered(self.settings, study, DicomResults(study, TimeZone(self.settings.time_zone)))
        deliveries: list[Delivery] = []
        for name in study.destinations:
            destination = self.settings.destinations[name]
            deliveries += self.builders[destination.kind](name, destination, answered)
        return deliveries
