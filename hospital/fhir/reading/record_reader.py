"""What a FHIR server holds of a patient, asked for again and again: what changed since the last time, with an overlap.

Polling is the base, because subscriptions prove no completeness and many servers have none. Servers set
``_lastUpdated`` with their own clock and commit out of order: the overlap covers both, and what comes twice is stored
once, by id and version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from consilium.domain.errors import InputError
from consilium.formats.time_zone import TimeZone
from hospital.fhir.fhir_client import FhirClient, FhirFault, Parameters
from hospital.fhir.reading.clinical_documents import note_of
from hospital.fhir.reading.laboratory_values import values_of
from hospital.fhir.reading.ordered_studies import order_of, update_of
from hospital.fhir.reading.resource_fields import Reading, Resource, text
from hospital.store.clock import Clock
from hospital.store.received import Inbox, PatientId, Received, ReceivedObservation
from hospital.terminology.site_tables import Terminology

OVERLAP = timedelta(minutes=10)
_MOST_AT_ONCE = 500

Former = Callable[[PatientId], Sequence[ReceivedObservation]]
"""The values of a patient that were received before."""


@dataclass(frozen=True)
class FhirSource:
    """One server that is read.

    Attributes
    ----------
    system : str
        Of the identifier by which it knows a patient of `issuer`.
    categories : tuple of str
        Of Observations; each is asked for by itself, because servers refuse a search without one.
    history : timedelta
        How far back the first search looks.
    """

    name: str
    system: str
    issuer: str
    terminology: Terminology
    zone: TimeZone
    accession_issuer: str | None = None
    categories: tuple[str, ...] = ("laboratory", "vital-signs")
    history: timedelta = timedelta(days=7)


class Ambiguous(FhirFault):
    """Several patients of the server have the identifier: nothing is read of any."""


@dataclass(frozen=True)
class RecordReader:
    """Reads one server into the inbox."""

    source: FhirSource
    client: FhirClient
    inbox: Inbox
    former: Former
    clock: Clock

    async def read(self, patient: PatientId, since: datetime | None = None) -> datetime:
        """Store what the server holds of `patient`, or what changed since.

        Parameters
        ----------
        since : datetime or None
            What this gave the last time; None asks for everything within the source's history.

        Returns
        -------
        datetime
            From when on to ask the next time.

        Raises
        ------
        InputError
            `patient` is of another issuer than the server's.
        FhirFault
            Nothing of this reading need be asked for again before: what had come is stored.
        StoreFull, StoreUnavailable
        """
        if patient.issuer != self.source.issuer:
            raise InputError("patient", "of another issuer", f"must be of {self.source.issuer}")
        started = self.clock()
        known = Reading(patient, self.source.name, started, self.source.terminology, self.source.zone)
        holder = await self._patient(patient)
        if holder is None:
            return started
        await self._store([update_of(holder, known)])
        changed = () if since is None else (("_lastUpdated", f"ge{(since - OVERLAP).isoformat()}"),)
        await self._values(text(holder, "id"), known, changed)
        await self._texts(text(holder, "id"), known, changed)
        await self._orders(text(holder, "id"), known, changed)
        return started

    async def _patient(self, patient: PatientId) -> Resource | None:
        found: dict[str, Resource] = {}
        async for one in self.client.search("Patient", (("identifier", f"{self.source.system}|{patient.value}"),)):
            if text(one, "id"):
                found[text(one, "id")] = one
        if len(found) > 1:
            raise Ambiguous("several patients of the server have the identifier")
        return next(iter(found.values()), None)

    async def _values(self, holder: str, known: Reading, changed: Parameters) -> None:
        former = await asyncio.to_thread(self.former, known.patient)
        for category in self.source.categories:
            asked: Parameters = (("patient", holder), ("category", category), *self._dated(changed, known))
            found: list[Received] = []
            async for one in self.client.search("Observation", asked):
                if _is_of(one, holder):
                    found += values_of(one, known, former)
                if len(found) >= _MOST_AT_ONCE:
                    await self._store(found)
                    found = []
            await self._store(found)

    async def _texts(self, holder: str, known: Reading, changed: Parameters) -> None:
        for kind in ("DocumentReference", "DiagnosticReport"):
            asked: Parameters = (("patient", holder), *self._dated(changed, known))
            async for one in self.client.search(kind, asked):
                note = await note_of(one, known, self._attachment) if _is_of(one, holder) else None
                await self._store([] if note is None else [note])

    async def _orders(self, holder: str, known: Reading, changed: Parameters) -> None:
        async for one in self.client.search("ServiceRequest", (("patient", holder), *changed)):
            order = order_of(one, known, self.source.accession_issuer) if _is_of(one, holder) else None
            await self._store([] if order is None else [order])

    def _dated(self, changed: Parameters, known: Reading) -> Parameters:
        """What changed; the first time by when it holds."""
        return changed or (("date", f"ge{(known.received - self.source.history).isoformat()}"),)

    async def _attachment(self, url: str, kind: str) -> bytes:
        try:
            return await self.client.read(url, kind)
        except FhirFault as fault:
            if fault.transient:
                raise
            # One document that cannot be fetched costs no other.
            raise InputError("attachment", "not fetched", "must be on the server") from None

    async def _store(self, records: Sequence[Received]) -> None:
        if records:
            await asyncio.to_thread(self.inbox.add, *records)


def _is_of(resource: Resource, holder: str) -> bool:
    """Whether a resource says that it is about this patient; a server that ignores a parameter sends everybody's."""
    reference = text(resource, "subject", "reference") or text(resource, "patient", "reference")
    return reference.rpartition("Patient/")[2].partition("/")[0] == holder and "Patient/" in reference
