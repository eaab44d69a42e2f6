"""The audit trail of a gateway, as gateway.yaml describes it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from dataclasses import dataclass
from functools import partial
from io import BytesIO

import httpx
from pydicom import dcmread

from hospital.audit.audit_events import AuditCode, AuditEvent
from hospital.audit.audit_trail import AuditTrail, Render
from hospital.audit.dicom_message import audit_xml
from hospital.audit.fhir_message import audit_event
from hospital.audit.syslog import SyslogSender, syslog_message
from hospital.configuration.audit_settings import AuditSettings, FhirRepository, SyslogRepository
from hospital.configuration.gateway_settings import GatewaySettings
from hospital.delivery.destinations import DeliverySender
from hospital.fhir.results.result_sender import ResourceSender
from hospital.running.delivery_parts import fhir_authorisation
from hospital.running.gateway_metrics import CountedEvents
from hospital.store.gateway_store import Store
from hospital.store.received import StoreUnavailable
from hospital.store.state import QueuedDelivery

logger = logging.getLogger("consilium.gateway")

_LOOK_EVERY_S = 5.0
_DICOM_KINDS = ("sr", "sc", "seg")


def audit_trail(settings: GatewaySettings, store: Store) -> AuditTrail | None:
    """None where gateway.yaml has no `audit`."""
    given = settings.audit
    if given is None:
        return None
    title = given.source if settings.dicom is None else settings.dicom.ae_title
    renders = {name: _render(given, one) for name, one in given.repositories.items()}
    return AuditTrail(store, renders, title, given.spool)


def _render(given: AuditSettings, repository: SyslogRepository | FhirRepository) -> Render:
    if isinstance(repository, FhirRepository):
        return partial(_fhir, given)
    return partial(_syslog, given, socket.getfqdn(), os.getpid())


def _fhir(given: AuditSettings, event: AuditEvent) -> bytes:
    return json.dumps(audit_event(event, given.source, given.site)).encode()


def _syslog(given: AuditSettings, host: str, process: int, event: AuditEvent) -> bytes:
    return syslog_message(audit_xml(event, given.source, given.site), event.time, host, process)


def repository_senders(settings: GatewaySettings) -> dict[str, DeliverySender]:
    """What sends to each repository, by its name. Certificates and secrets are read now.

    Raises
    ------
    InputError
    """
    if settings.audit is None:
        return {}
    return {name: _sender(name, one, settings) for name, one in settings.audit.repositories.items()}


def _sender(name: str, given: SyslogRepository | FhirRepository, settings: GatewaySettings) -> DeliverySender:
    if isinstance(given, FhirRepository):
        server, field = settings.fhir[given.server], f"fhir.{given.server}"
        client = httpx.AsyncClient(
            base_url=server.url,
            headers=server.headers(field),
            verify=server.tls.context(f"{field}.tls"),
            timeout=server.timeout_s,
        )
        return ResourceSender(client, "AuditEvent", fhir_authorisation(server, field, client))
    tls = given.tls.context(f"audit.repositories.{name}.tls") if given.transport == "tls" else None
    return SyslogSender(given.address.host, given.address.port, given.transport, tls)


@dataclass(frozen=True, slots=True)
class AuditedSender:
    """A destination whose deliveries are told; `hospital.delivery.destinations.DeliverySender`."""

    sender: DeliverySender
    trail: AuditTrail

    async def send(self, queued: QueuedDelivery) -> None:
        """See `DeliverySender.send`."""
        delivery = queued.delivery
        sop_class = _sop_class(delivery.content) if delivery.kind in _DICOM_KINDS else None
        if sop_class is not None:
            await asyncio.to_thread(self.trail.begun, delivery, sop_class)
        await self.sender.send(queued)
        await asyncio.to_thread(self.trail.delivered, delivery, sop_class)

    async def close(self) -> None:
        await self.sender.close()


def _sop_class(content: bytes) -> str:
    """Of an object of ours."""
    return str(dcmread(BytesIO(content), specific_tags=["SOPClassUID"]).SOPClassUID)


@dataclass
class AuditPart:
    """Start, stop, and what was received; `hospital.running.parts.Part`, the first to start and the last to stop."""

    trail: AuditTrail
    _task: asyncio.Task[None] | None = None

    @property
    def listening(self) -> str:
        return f"audit, for {', '.join(self.trail.repositories)}"

    async def start(self) -> None:
        await asyncio.to_thread(self.trail.application, AuditCode.APPLICATION_START)
        self._task = asyncio.create_task(self._run(), name="audit")

    async def stop(self) -> None:
        """What was received last is told at the next start."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.to_thread(self.trail.application, AuditCode.APPLICATION_STOP)

    def count(self, events: CountedEvents) -> None:
        description, labels = "Audit messages by repository and outcome", ("repository", "outcome")
        events.add("consilium_gateway_audit_messages", description, labels, self.trail.counts)

    async def _run(self) -> None:
        while True:
            try:
                while await asyncio.to_thread(self.trail.follow):
                    pass
            except StoreUnavailable:
                logger.warning("the store cannot be reached; the audit trail waits")
            await asyncio.sleep(_LOOK_EVERY_S)
