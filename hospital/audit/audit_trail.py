"""The audit trail: events become messages for every repository, kept in the outbox until these have taken them.

A repository that is away keeps nothing waiting: its messages are spooled up to a bound, beyond which they are dropped
and counted. What was received is told from the store's own rows, in their order and from where the last telling ended:
a process that dies loses none.
"""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from hospital.audit.audit_events import Action, AuditCode, AuditEvent, Participant
from hospital.store.gateway_store import Store
from hospital.store.received import (
    PatientId,
    Received,
    ReceivedInstance,
    ReceivedOrder,
    StoreUnavailable,
)
from hospital.store.state import Delivery, Stored

_LOG = logging.getLogger("consilium.gateway")
_POSITION = "audit"
_AT_ONCE = 500
_SETTLED = timedelta(seconds=10)
"""What was received is told after as long: the objects of one association are one event."""
_SAME_ALERT_S = 60.0

Render = Callable[[AuditEvent], bytes]
"""The message of an event, as a repository takes it."""


@dataclass
class AuditTrail:
    """Several threads may use it; its methods block until the message is on the disk.

    Attributes
    ----------
    repositories : mapping of str to Render
        By the name of their lane in the outbox.
    ourselves : str
        The gateway's AE title.
    capacity : int
        Most messages that wait for one repository.
    counts : Counter
        Messages by repository and outcome: ``spooled``, ``dropped``.
    """

    store: Store
    repositories: Mapping[str, Render]
    ourselves: str
    capacity: int = 100_000
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _alerts: dict[str, float] = field(default_factory=dict)

    def record(self, event: AuditEvent, key: str | None = None) -> None:
        """Spool the messages of an event. It never fails: what cannot be spooled is counted.

        Parameters
        ----------
        key : str, optional
            What is the same where the event is told again: it is then sent once.
        """
        name = key or uuid.uuid4().hex
        for repository, render in self.repositories.items():
            try:
                outcome = self._spooled(Delivery(name, repository, "audit", render(event)))
            except StoreUnavailable:
                outcome = "dropped"
            self.counts[repository, outcome] += 1

    def _spooled(self, delivery: Delivery) -> str:
        if self.store.outbox.waiting(delivery.destination) >= self.capacity:
            return "dropped"
        self.store.outbox.put([delivery])
        return "spooled"

    def application(self, what: AuditCode) -> None:
        """The gateway starts, or stops."""
        us = Participant(self.ourselves, requestor=False, role=AuditCode.APPLICATION)
        self.record(AuditEvent(AuditCode.APPLICATION_ACTIVITY, "E", self.store.clock(), (us,), type=what))

    def alert(self, door: str, reason: str, address: str | None = None) -> None:
        """Somebody was refused at a door. The same again within a minute is not told again: it may be a flood."""
        now = time.monotonic()
        if now - self._alerts.get(f"{door} {reason}", -_SAME_ALERT_S) < _SAME_ALERT_S:
            return
        self._alerts[f"{door} {reason}"] = now
        participants = (
            Participant(self.ourselves, requestor=False),
            Participant(door, requestor=True, address=address),
        )
        kind = AuditCode.NODE_AUTHENTICATION
        event = AuditEvent(AuditCode.SECURITY_ALERT, "E", self.store.clock(), participants, type=kind, problem=reason)
        self.record(event)

    def queried(self, source: str, study: str) -> None:
        """A source was asked what it has of a study."""
        self._asked(source, f"StudyInstanceUID={study}")

    def searched(self, source: str, patient: PatientId) -> None:
        """A source was asked for the studies of a patient."""
        self._asked(source, f"PatientID={patient.value}")

    def _asked(self, source: str, keys: str) -> None:
        participants = (
            Participant(self.ourselves, requestor=True, role=AuditCode.SOURCE),
            Participant(source, requestor=False, role=AuditCode.DESTINATION),
        )
        self.record(AuditEvent(AuditCode.QUERY, "E", self.store.clock(), participants, query=keys.encode()))

    def begun(self, delivery: Delivery, sop_class: str) -> None:
        """A DICOM object is about to be sent; told once, however often it is tried. Source: PS3.15 A.5.3.3."""
        self._exported(AuditCode.BEGIN_TRANSFERRING, "E", delivery, sop_class, "begun")

    def delivered(self, delivery: Delivery, sop_class: str | None) -> None:
        """A destination took a result over; `sop_class` of a DICOM object."""
        code = AuditCode.EXPORT if sop_class is None else AuditCode.INSTANCES_TRANSFERRED
        self._exported(code, "R", delivery, sop_class, "delivered")

    def _exported(self, code: AuditCode, action: Action, delivery: Delivery, sop_class: str | None, what: str) -> None:
        try:
            state = None if delivery.study is None else self.store.studies.get(delivery.study)
        except StoreUnavailable:
            self.counts.update((repository, "dropped") for repository in self.repositories)
            return
        participants = (
            Participant(self.ourselves, requestor=True, role=AuditCode.SOURCE),
            Participant(delivery.destination, requestor=False, role=AuditCode.DESTINATION),
        )
        event = AuditEvent(
            code,
            action,
            self.store.clock(),
            participants,
            patient=None if state is None else state.patient,
            study=delivery.study,
            sop_classes={} if sop_class is None else {sop_class: 1},
        )
        self.record(event, key=f"{what} {delivery.destination} {delivery.key}")

    def follow(self) -> int:
        """Tell of what was received since the last time, but for the last seconds; of how many records."""
        since = self.store.positions.get(_POSITION)
        if since is None:
            # What had been received before the trail was switched on is not told.
            self.store.positions.set(_POSITION, str(self.store.records.last_number()))
            return 0
        found = self.store.records.after(int(since), self.store.clock() - _SETTLED, _AT_ONCE)
        groups: dict[tuple[str, ...], list[Stored]] = defaultdict(list)
        for stored in found:
            groups[_group(stored.record)].append(stored)
        for group in groups.values():
            event = self._received([one.record for one in group])
            numbers = ",".join(str(one.number) for one in group)
            self.record(event, key=f"received {hashlib.sha256(numbers.encode()).hexdigest()}")
        if found:
            self.store.positions.set(_POSITION, str(found[-1].number))
        return len(found)

    def _received(self, records: Sequence[Received]) -> AuditEvent:
        """One event for records of one kind, source and patient."""
        first = records[0]
        participants = (
            Participant(first.source, requestor=True, role=AuditCode.SOURCE),
            Participant(self.ourselves, requestor=False, role=AuditCode.DESTINATION),
        )
        patient, now = _patient(first), self.store.clock()
        if isinstance(first, ReceivedInstance):
            classes = Counter(one.sop_class for one in records if isinstance(one, ReceivedInstance))
            code = AuditCode.INSTANCES_TRANSFERRED
            return AuditEvent(
                code, "C", now, participants, patient=patient, study=first.study, sop_classes=dict(classes)
            )
        if isinstance(first, ReceivedOrder):
            code, number = AuditCode.ORDER_RECORD, None if first.accession is None else first.accession.value
            return AuditEvent(code, "R", now, participants, patient=patient, study=first.study, accession=number)
        study: str | None = getattr(first, "study", None)
        return AuditEvent(AuditCode.PATIENT_RECORD, "R", now, participants, patient=patient, study=study)


def _patient(record: Received) -> PatientId | None:
    found: PatientId | None = getattr(record, "patient", None) or getattr(record, "stays", None)
    return found


def _group(record: Received) -> tuple[str, ...]:
    patient = _patient(record)
    whom = ("", "") if patient is None else (patient.value, patient.issuer or "")
    if isinstance(record, ReceivedInstance):
        return ("instance", record.source, record.study, *whom)
    if isinstance(record, ReceivedOrder):
        return ("order", record.source, record.placer or record.filler or record.study or "", *whom)
    # Values and notes of one patient are one reading; a step and a rejection note concern a study.
    return ("record", record.source, getattr(record, "study", None) or "", *whom)
