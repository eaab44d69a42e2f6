"""What sends results, as gateway.yaml describes it."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from consilium.domain.errors import InputError
from hospital.configuration.gateway_settings import GatewaySettings
from hospital.configuration.route_settings import (
    Destination,
    DicomDestination,
    FhirDestination,
    Hl7Destination,
    StowDestination,
)
from hospital.configuration.system_settings import FhirServer
from hospital.delivery.destinations import DeliverySender, Unreachable
from hospital.fhir.backend_token import BackendToken, NotAuthorised, SigningKey
from hospital.fhir.results.result_sender import Authorise, TransactionSender
from hospital.running.dicom_parts import DicomParts
from hospital.running.hl7_parts import MessageSender


def senders(settings: GatewaySettings, dicom: DicomParts) -> dict[str, DeliverySender]:
    """One for each destination, by its name. Secrets and certificates are read now.

    Raises
    ------
    InputError
    """
    return {name: _sender(name, given, settings, dicom) for name, given in settings.destinations.items()}


def _sender(name: str, given: Destination, settings: GatewaySettings, dicom: DicomParts) -> DeliverySender:
    if isinstance(given, DicomDestination | StowDestination):
        return dicom.sender(given)
    if isinstance(given, Hl7Destination):
        return MessageSender.of(name, given)
    return transaction_sender(settings, given)


def transaction_sender(settings: GatewaySettings, destination: FhirDestination) -> TransactionSender:
    """What posts to the server of `destination`.

    Raises
    ------
    InputError
        A secret cannot be read, or the server's settings do not say how it knows patients.
    """
    given, field = settings.fhir[destination.server], f"fhir.{destination.server}"
    if given.patient_system is None or given.patient_issuer is None:
        rule = "must be given, with patient_issuer: results go to the patient who has that identifier"
        raise InputError(f"{field}.patient_system", given.patient_system, rule)
    client = httpx.AsyncClient(
        base_url=given.url,
        headers=given.headers(field),
        verify=given.tls.context(f"{field}.tls"),
        timeout=given.timeout_s,
    )
    return TransactionSender(client, fhir_authorisation(given, field, client))


def fhir_authorisation(given: FhirServer, field: str, http: httpx.AsyncClient) -> Authorise | None:
    """Asks for a token of the backend service before each request; None where there is none."""
    service = given.backend_service
    if service is None:
        return None
    key = SigningKey.read(service.key.read(f"{field}.backend_service.key"), service.key_id)
    backend = BackendToken(http, given.url, service.client_id, key, service.token_url, service.scopes)

    async def authorise() -> Mapping[str, str]:
        try:
            return {"Authorization": f"Bearer {await backend.token()}"}
        except NotAuthorised as error:
            raise Unreachable(str(error)) from None

    return authorise
