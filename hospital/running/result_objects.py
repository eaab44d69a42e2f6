"""What a route's destinations are sent of an answer: each kind of destination has its builder."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from consilium.domain.study import Sex
from consilium.formats.time_zone import TimeZone
from hospital.configuration.gateway_settings import GatewaySettings
from hospital.configuration.route_settings import DicomDestination, FhirDestination, Hl7Destination, StowDestination
from hospital.fhir.results.bundle import FhirResult, PatientIdentifier, result_bundle, withdrawal_bundle
from hospital.hl7.report_message import ReportMessage
from hospital.store.state import Addressee, Delivery, QueuedDelivery, Revision
from hospital.studies.answered_study import AnsweredStudy, reported_revision
from hospital.studies.asking.page_removals import page_removal
from hospital.studies.dicom_results import DicomResults

logger = logging.getLogger("consilium.gateway")
_SEXES = {Sex.FEMALE: "F", Sex.MALE: "M"}


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


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """An answer that went to the wrong addressee, when that was noticed, and the settings."""

    settings: GatewaySettings
    revision: Revision
    whom: Addressee
    sent: Sequence[QueuedDelivery]
    noticed: datetime


Withdrawer = Callable[[str, Any, Withdrawn], Sequence[Delivery]]
"""As `Builder`, of what takes an answer back. What it puts in is of no revision: no later one supersedes it."""


def nothing_more(name: str, destination: DicomDestination | StowDestination, given: Withdrawn) -> Sequence[Delivery]:
    """Objects in an archive name the patient as their images do; those of the next revision supersede them."""
    del name, destination, given
    return ()


def hl7_withdrawal(name: str, destination: Hl7Destination, given: Withdrawn) -> Sequence[Delivery]:
    """The same ORU^R01 once more, as wrong."""
    whom, order = given.whom, given.whom.order
    message = ReportMessage(
        reported=reported_revision(given.revision),
        study=given.revision.study,
        patient="" if whom.patient is None else whom.patient.value,
        authority=_namespace(given.settings, None if whom.patient is None else whom.patient.issuer),
        created=given.noticed,
        name=whom.name,
        birth_date="" if whom.birth_date is None else f"{whom.birth_date:%Y%m%d}",
        sex=_SEXES.get(whom.sex, ""),
        placer=(order and order.placer) or "",
        filler=(order and order.filler) or "",
        accession=whom.accession.value if whom.accession else "",
        taken=whom.taken,
        application=destination.application,
        facility=destination.facility,
        number=given.revision.number,
        withdrawn=True,
    )
    return [Delivery(message.control_id, name, "oru", message.content(), given.revision.study)]


def fhir_withdrawal(name: str, destination: FhirDestination, given: Withdrawn) -> Sequence[Delivery]:
    """The same resources, entered in error."""
    server, whom, revision = given.settings.fhir[destination.server], given.whom.patient, given.revision
    if whom is None or server.patient_system is None or whom.issuer != server.patient_issuer:
        return ()
    bundle = withdrawal_bundle(
        FhirResult(
            reported=reported_revision(revision),
            study=revision.study,
            patient=PatientIdentifier(server.patient_system, whom.value),
            created=given.noticed,
            taken=given.whom.taken,
            number=revision.number + 1,
            structured_report=next((one.delivery.key for one in given.sent if one.delivery.kind == "sr"), None),
        )
    )
    return [Delivery(f"withdrawn {revision.revision}", name, "bundle", json.dumps(bundle).encode(), revision.study)]


def services_with_readers(settings: GatewaySettings) -> list[str]:
    """By name, the services on whose reading page what some route sends is seen."""
    return sorted({one.service for one in settings.routes.values() if one.reading_group is not None})


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
WITHDRAWERS: Mapping[str, Withdrawer] = {
    "dicom": nothing_more,
    "stow": nothing_more,
    "hl7": hl7_withdrawal,
    "fhir": fhir_withdrawal,
}
"""Likewise."""


@dataclass(frozen=True, slots=True)
class ResultObjects:
    """Makes what all destinations of a study are sent, `hospital.studies.answered_study.BuildDeliveries`.

    `withdrawals` are the `BuildWithdrawals`.
    """

    settings: GatewaySettings
    builders: Mapping[str, Builder] = field(default_factory=lambda: BUILDERS)

    def __call__(self, study: AnsweredStudy) -> list[Delivery]:
        answered = Answered(self.settings, study, DicomResults(study, TimeZone(self.settings.time_zone)))
        deliveries: list[Delivery] = []
        for name in study.destinations:
            destination = self.settings.destinations[name]
            deliveries += self.builders[destination.kind](name, destination, answered)
        return deliveries

    def withdrawals(self, revision: Revision, sent: Sequence[QueuedDelivery], noticed: datetime) -> list[Delivery]:
        """For each destination that it may have reached and that gateway.yaml still has, and for each reading page."""
        deliveries: list[Delivery] = []
        if revision.addressee is None:
            return deliveries
        given = Withdrawn(self.settings, revision, revision.addressee, sent, noticed)
        for name in dict.fromkeys(one.delivery.destination for one in sent if one.may_have_arrived):
            destination = self.settings.destinations.get(name)
            if destination is not None:
                deliveries += WITHDRAWERS[destination.kind](name, destination, given)
        for service in services_with_readers(self.settings):
            deliveries += page_removal(service, revision)
        return deliveries
