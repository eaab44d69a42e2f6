"""The HL7 side of a gateway, as gateway.yaml describes it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from consilium.domain.errors import InputError
from consilium.formats.time_zone import TimeZone
from hospital.configuration.gateway_settings import GatewaySettings
from hospital.configuration.route_settings import Hl7Destination
from hospital.configuration.system_settings import Hl7Listener, Hl7Sender
from hospital.delivery.destinations import Refused, Unreachable
from hospital.hl7.listener import Allowed, Listener, ListenerLimits
from hospital.hl7.receiving import Receiver
from hospital.hl7.sender import NotDelivered, Sender
from hospital.hl7.source import Source, places
from hospital.running.dicom_parts import Alarm, issuers, no_alarm
from hospital.running.gateway_metrics import CountedEvents
from hospital.store.gateway_store import Store
from hospital.store.received import PatientId, ReceivedObservation
from hospital.store.state import QueuedDelivery
from hospital.terminology.site_tables import CodeTable, Issuers, Terminology, document_kind


def terminology(settings: GatewaySettings) -> Terminology:
    """The site's tables."""
    return Terminology(
        CodeTable((one.system, one.code, one.means) for one in settings.local_codes),
        CodeTable((one.system, one.code, document_kind(one.kind)) for one in settings.documents),
        Issuers(issuers(settings)),
    )


def hl7_listeners(settings: GatewaySettings, store: Store, alarm: Alarm = no_alarm) -> dict[str, Listener]:
    """The ports for HL7 messages, not yet started, by their names.

    Raises
    ------
    InputError
        A certificate or a place in messages cannot be read.
    """
    terms = terminology(settings)
    listeners = {name: _listener(name, given, settings, terms, store) for name, given in settings.hl7.items()}
    for name, listener in listeners.items():
        listener.alarm = partial(alarm, f"hl7 {name}")
    return listeners


def _listener(name: str, given: Hl7Listener, settings: GatewaySettings, terms: Terminology, store: Store) -> Listener:
    zone = TimeZone(settings.time_zone)
    senders = []
    for sender, known in given.senders.items():
        receiver = Receiver(
            _source(sender, known, terms, zone),
            store.inbox,
            EarlierValues(store, sender),
            store.clock,
            productive=not given.test_messages,
        )
        senders.append(Allowed(receiver, known.networks, known.fingerprint))
    limits = ListenerLimits(message_bytes=given.largest_message, connections=given.connections)
    tls = None if given.tls is None else given.tls.context(f"hl7.{name}.tls")
    return Listener(given.listen.host, given.listen.port, senders, limits, tls)


def hl7_source(settings: GatewaySettings, sender: str) -> Source:
    """What a sender of HL7 is, by its name.

    Raises
    ------
    InputError
        `settings` have none of that name.
    """
    known = {name: one for listener in settings.hl7.values() for name, one in listener.senders.items()}
    if sender not in known:
        raise InputError("sender", sender, f"must be one of `hl7`: {', '.join(known) or 'there is none'}")
    return _source(sender, known[sender], terminology(settings), TimeZone(settings.time_zone))


def _source(name: str, given: Hl7Sender, terms: Terminology, zone: TimeZone) -> Source:
    return Source(
        name,
        terms,
        zone,
        given.encoding,
        given.patient_issuer,
        given.accession_issuer,
        places(*given.accession),
        places(*given.study),
        places(*given.reason),
        places(*given.result_accession),
    )


@dataclass(frozen=True, slots=True)
class Hl7Part:
    """One port; `hospital.running.parts.Part`."""

    name: str
    listener: Listener

    @property
    def listening(self) -> str:
        return f"hl7 {self.name} port {self.listener.port}"

    async def start(self) -> None:
        """Listen. Raises `InputError` where its address is in use."""
        try:
            await self.listener.start()
        except OSError as error:
            rule = f"must be an address of this machine that is free ({error.strerror})"
            where = f"{self.listener.host}:{self.listener.port}"
            raise InputError(f"hl7.{self.name}.listen", where, rule) from None

    async def stop(self) -> None:
        """Answer what has arrived, and close."""
        await self.listener.stop()

    def count(self, events: CountedEvents) -> None:
        """Show its counts among the metrics."""
        description, labels = "HL7 messages by sender, kind and answer", ["sender", "kind", "answer"]
        for allowed in self.listener.senders:
            receiver = allowed.receiver
            events.add("consilium_gateway_hl7_messages", description, labels, receiver.counts, receiver.source.name)
        description, labels = "HL7 connections and frames that were refused", ["listener", "reason"]
        events.add("consilium_gateway_hl7_refusals", description, labels, self.listener.counts, self.name)


@dataclass(frozen=True, slots=True)
class EarlierValues:
    """What a sender had said of a value before; `hospital.hl7.results.Earlier`."""

    store: Store
    source: str

    def __call__(self, patient: PatientId, key: str) -> ReceivedObservation | None:
        known = self.store.records.observations([patient])
        same = [one for one in known if (one.source, one.key) == (self.source, key)]
        return max(same, key=lambda one: one.issued, default=None)


@dataclass(frozen=True, slots=True)
class MessageSender:
    """Sends messages to one receiver; `hospital.delivery.destinations.DeliverySender`."""

    connection: Sender

    @classmethod
    def of(cls, name: str, given: Hl7Destination) -> MessageSender:
        tls = None if given.tls is None else given.tls.context(f"destinations.{name}.tls")
        return cls(Sender(given.address.host, given.address.port, tls))

    async def send(self, queued: QueuedDelivery) -> None:
        """See `DeliverySender.send`."""
        try:
            await self.connection.send(queued.delivery.content)
        except NotDelivered as error:
            raise (Unreachable if error.transient else Refused)(str(error)) from None

    async def close(self) -> None:
        await self.connection.close()
