"""The FHIR servers that are read, as gateway.yaml describes them: each is polled for the patients of open studies."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

import httpx

from consilium.formats.time_zone import TimeZone
from hospital.configuration.gateway_settings import GatewaySettings
from hospital.configuration.system_settings import FhirServer
from hospital.fhir.backend_token import BackendToken, SigningKey
from hospital.fhir.fhir_client import FhirClient
from hospital.fhir.reading.polling import Polling
from hospital.fhir.reading.record_reader import FhirSource, RecordReader
from hospital.running.gateway_metrics import CountedEvents
from hospital.running.hl7_parts import terminology
from hospital.store.gateway_store import Store
from hospital.terminology.site_tables import Terminology


@dataclass
class ReadingPart:
    """One server that is polled; `hospital.running.parts.Part`."""

    name: str
    polling: Polling
    http: httpx.AsyncClient
    _task: asyncio.Task[None] | None = None

    @property
    def listening(self) -> str:
        return f"fhir {self.name}, read every {self.polling.interval_s:.0f} s"

    async def start(self) -> None:
        self._task = asyncio.create_task(self.polling.run(), name=f"fhir {self.name}")

    async def stop(self) -> None:
        """What has come is stored; the next start goes on from there."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.http.aclose()

    def count(self, events: CountedEvents) -> None:
        description = "Readings of a patient's records by FHIR server and outcome"
        labels = ("server", "outcome")
        events.add("consilium_gateway_fhir_readings", description, labels, self.polling.counts, self.name)


def reading_parts(settings: GatewaySettings, store: Store) -> list[ReadingPart]:
    """A part for each server that is read, and that knows patients by an identifier.

    Raises
    ------
    InputError
        A token, key or certificate cannot be read.
    """
    terms = terminology(settings)
    return [
        _part(name, given, settings, store, terms)
        for name, given in settings.fhir.items()
        if given.read and given.patient_system is not None and given.patient_issuer is not None
    ]


def _part(name: str, given: FhirServer, settings: GatewaySettings, store: Store, terms: Terminology) -> ReadingPart:
    assert given.patient_system is not None
    assert given.patient_issuer is not None
    field = f"fhir.{name}"
    http = httpx.AsyncClient(
        headers=given.headers(field), verify=given.tls.context(f"{field}.tls"), timeout=given.timeout_s
    )
    source = FhirSource(
        name,
        given.patient_system,
        given.patient_issuer,
        terms,
        TimeZone(settings.time_zone),
        categories=given.categories,
    )
    reader = RecordReader(
        source,
        FhirClient(given.url, http, _token(given, http, field, store)),
        store.inbox,
        lambda patient: store.records.observations([patient]),
        store.clock,
    )
    return ReadingPart(name, Polling(store, reader), http)


def _token(given: FhirServer, http: httpx.AsyncClient, field: str, store: Store) -> BackendToken | None:
    service = given.backend_service
    if service is None:
        return None
    key = SigningKey.read(service.key.read(f"{field}.backend_service.key"), service.key_id)
    return BackendToken(http, given.url, service.client_id, key, service.token_url, service.scopes, store.clock)
