"""A gateway made of what gateway.yaml describes."""

from __future__ import annotations

from consilium.api.client import AsyncClient
from hospital.audit.audit_trail import AuditTrail
from hospital.configuration.gateway_settings import GatewaySettings
from hospital.configuration.network_settings import HttpServer
from hospital.delivery.destinations import DeliverySender
from hospital.delivery.lanes import Lanes
from hospital.running.audit_parts import AuditedSender, AuditPart, audit_trail, repository_senders
from hospital.running.delivery_parts import senders
from hospital.running.dicom_listening import DicomPart
from hospital.running.dicom_parts import DicomParts, no_alarm
from hospital.running.gateway import Gateway, store_location
from hospital.running.hl7_parts import Hl7Part, hl7_listeners
from hospital.running.parts import Part
from hospital.running.prior_parts import prior_parts
from hospital.running.reading_parts import reading_parts
from hospital.running.result_objects import ResultObjects, services_with_readers
from hospital.running.routes.cds_parts import cds_routes
from hospital.running.routes.smart_parts import smart_routes
from hospital.running.routes.stow_routes import stow_routes
from hospital.running.sources.source_listing import ConfiguredSources
from hospital.running.worklist_parts import worklist_parts
from hospital.store.clock import Clock, system_clock
from hospital.store.gateway_store import Store
from hospital.studies.asking.explanation_jobs import ExplanationJobs
from hospital.studies.asking.page_removals import PageRemovals, page_lane
from hospital.studies.rules.configured_routes import configured_routes
from hospital.studies.study_walk import Surroundings
from hospital.studies.worker import StudyWorker


def assembled_gateway(settings: GatewaySettings, clock: Clock = system_clock) -> Gateway:
    """A gateway that is not started yet. Secrets and certificates are read now.

    Raises
    ------
    InputError
    """
    store = Store(store_location(settings), clock)
    trail = audit_trail(settings, store)
    dicom = DicomParts.of(settings, store, trail.alert if trail else no_alarm)
    chosen = configured_routes(settings)
    services = {name: _jobs(name, given, clock) for name, given in settings.services.items()}
    results = ResultObjects(settings)
    surroundings = Surroundings(
        store=store,
        routes=chosen,
        services=services,
        sources=ConfiguredSources(dicom.listings(), trail.queried if trail else no_alarm),
        build=results,
        withdraw=results.withdrawals,
        clock=clock,
    )
    sent = _senders(settings, dicom, trail)
    sent |= {page_lane(name): PageRemovals(services[name]) for name in services_with_readers(settings)}
    lanes = Lanes(sent, store.outbox, clock, give_up=settings.delivery.give_up)
    routes = [
        *stow_routes(settings, store, dicom.receiver),
        *cds_routes(settings, store, clock),
        *smart_routes(settings, store, clock),
    ]
    parts = [*_parts(settings, store, dicom), *prior_parts(settings, store, dicom, chosen, services, trail)]
    told = [] if trail is None else [AuditPart(trail)]
    return Gateway(settings, store, [*told, *parts], StudyWorker(surroundings), lanes, routes)


def _senders(settings: GatewaySettings, dicom: DicomParts, trail: AuditTrail | None) -> dict[str, DeliverySender]:
    made = senders(settings, dicom)
    if trail is None:
        return made
    audited: dict[str, DeliverySender] = {name: AuditedSender(one, trail) for name, one in made.items()}
    return audited | repository_senders(settings)


def _parts(settings: GatewaySettings, store: Store, dicom: DicomParts) -> list[Part]:
    listeners = hl7_listeners(settings, store, dicom.alarm)
    parts: list[Part] = [Hl7Part(name, listener) for name, listener in listeners.items()]
    parts += reading_parts(settings, store)
    parts += worklist_parts(settings, store, dicom)
    entity = dicom.listener()
    if entity is None or settings.dicom is None:
        return parts
    return [DicomPart(entity, dicom.receiver, settings.dicom.ae_title), *parts]


def _jobs(name: str, given: HttpServer, clock: Clock) -> ExplanationJobs:
    field = f"services.{name}"
    token = None if given.token is None else given.token.read(f"{field}.token")
    tls = given.tls.context(f"{field}.tls")
    return ExplanationJobs(AsyncClient(given.url, token=token, timeout=given.timeout_s, verify=tls), clock)
