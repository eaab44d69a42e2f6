"""The DICOM side of a gateway, as gateway.yaml describes it."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import httpx

from consilium.formats.time_zone import TimeZone
from hospital.configuration.gateway_settings import GatewaySettings
from hospital.configuration.route_settings import DicomDestination, StowDestination
from hospital.configuration.system_settings import DicomListener, DicomPeerSettings
from hospital.dicom.acceptor import AssociationLimits
from hospital.dicom.archive_sender import ArchiveSender
from hospital.dicom.notices.commitments import Commitments
from hospital.dicom.peers import DicomPeer
from hospital.dicom.query_retrieve import Moved, QueryRetrieve
from hospital.dicom.reception import ObjectLimits, Receiver
from hospital.dicom.requesting import Requestor
from hospital.dicom.storage_scp import StorageListener, StorageScp
from hospital.dicom.storing import ArchiveStorage
from hospital.dicom.web.dicomweb_server import DicomWebServer
from hospital.running.sources.prior_finder import PriorSource
from hospital.running.sources.source_listing import ListInstances
from hospital.running.sources.study_fetching import StudyFetching
from hospital.store.gateway_store import Store

_TITLE = "CONSILIUM"
Alarm = Callable[[str, str, str | None], None]
"""Is told the door at which somebody was refused, why, and from which address."""


def no_alarm(*_: str | None) -> None:
    """Where nobody wants to know."""


def issuers(settings: GatewaySettings) -> dict[str, str]:
    """What assigning authorities call themselves → their name in the configuration."""
    return {known: name for name, given in settings.identifiers.items() for known in (name, *given.known_as)}


def dicom_peer(name: str, given: DicomPeerSettings) -> DicomPeer:
    return DicomPeer(
        name,
        given.ae_title,
        host=given.address.host if given.address else None,
        port=given.address.port if given.address else None,
        networks=given.networks,
        fingerprint=given.fingerprint,
        tls=given.tls is not None,
        patient_issuer=given.patient_issuer,
        accession_issuer=given.accession_issuer,
    )


@dataclass(frozen=True, slots=True)
class DicomParts:
    """What listens for peers, asks them and sends to them."""

    settings: GatewaySettings
    store: Store
    receiver: Receiver
    commitments: Commitments = field(default_factory=Commitments)
    alarm: Alarm = no_alarm

    @classmethod
    def of(cls, settings: GatewaySettings, store: Store, alarm: Alarm = no_alarm) -> DicomParts:
        listener = settings.dicom
        archives = [name for name, one in settings.destinations.items() if one.kind in ("dicom", "stow")]
        largest = ObjectLimits().bytes if listener is None else listener.largest_object
        receiver = Receiver(
            store.files,
            store.inbox,
            store.clock,
            TimeZone(settings.time_zone),
            ObjectLimits(bytes=largest),
            sent=lambda instance: store.outbox.holds(instance, archives),
            begun=store.records.step,
            issuers=issuers(settings),
        )
        return cls(settings, store, receiver, alarm=alarm)

    def listener(self) -> StorageScp | None:
        """What receives, not yet started; None where the configuration has no `dicom`.

        Raises
        ------
        InputError
            A certificate cannot be read.
        """
        given = self.settings.dicom
        if given is None:
            return None
        tls = None if given.tls is None else given.tls.context("dicom.tls")
        peers = [dicom_peer(name, one) for name, one in self.settings.peers.items() if "send" in one.may]
        listening = StorageListener(
            given.ae_title,
            given.listen.host,
            given.listen.port,
            peers,
            _limits(given),
            tls,
            has_room=lambda: self.store.inbox.has_room,
            alarm=partial(self.alarm, "dicom"),
        )
        return StorageScp(listening, self.receiver, self.store.holds, self.commitments)

    def listings(self) -> Mapping[str, ListInstances]:
        """How each system that may be asked is asked what it has of a study."""
        asked = {
            name: self._query(name).instances for name, one in self.settings.peers.items() if "be asked" in one.may
        }
        return asked | {name: self._server(name).instances for name in self.settings.dicomweb}

    def sender(self, destination: DicomDestination | StowDestination) -> ArchiveSender:
        if isinstance(destination, StowDestination):
            return ArchiveSender(self._server(destination.server))
        peer = self.settings.peers[destination.peer]
        query = self._query(destination.peer) if "be asked" in peer.may else None
        commitments = self.commitments if destination.commitment else None
        called = dicom_peer(destination.peer, peer)
        return ArchiveSender(ArchiveStorage(self._requestor(destination.peer), called, query, commitments))

    def fetching(self, name: str) -> StudyFetching:
        """How studies are fetched from a system that may be asked."""
        if name in self.settings.dicomweb:
            server = self._server(name)
            return StudyFetching(
                name, lambda study: server.retrieve(study, self.receiver, self.store.holds), server.instances
            )
        query = self._query(name)
        return StudyFetching(name, query.move, query.instances)

    def prior_source(self, name: str) -> PriorSource:
        """How priors are had from a system that may be asked."""
        if name in self.settings.dicomweb:
            server = self._server(name)

            def pull(study: str, series: Sequence[str]) -> Moved:
                return server.retrieve(study, self.receiver, self.store.holds, series)

            return PriorSource(server.studies_of, server.series_of, server.instances, pull)
        query = self._query(name)
        return PriorSource(query.studies_of, query.series_of, query.instances, query.move)

    def _query(self, name: str) -> QueryRetrieve:
        peer = dicom_peer(name, self.settings.peers[name])
        return QueryRetrieve(self._requestor(name), peer, self.receiver.zone, issuers(self.settings))

    def _server(self, name: str) -> DicomWebServer:
        given, field = self.settings.dicomweb[name], f"dicomweb.{name}"
        http = httpx.Client(
            base_url=given.url,
            headers=given.headers(field),
            verify=given.tls.context(f"{field}.tls"),
            timeout=given.timeout_s,
        )
        peer = DicomPeer(name, "", patient_issuer=given.patient_issuer, accession_issuer=given.accession_issuer)
        return DicomWebServer(peer, http, self.receiver.zone, issuers(self.settings))

    def _requestor(self, name: str) -> Requestor:
        given = self.settings.peers[name].tls
        tls: ssl.SSLContext | None = None if given is None else given.context(f"peers.{name}.tls")
        return Requestor(_TITLE if self.settings.dicom is None else self.settings.dicom.ae_title, tls)


def _limits(given: DicomListener) -> AssociationLimits:
    return AssociationLimits(associations=given.associations, idle_s=given.idle.total_seconds())
