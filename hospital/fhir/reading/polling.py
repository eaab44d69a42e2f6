"""The patients of open studies, asked for at each FHIR server in turn."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hospital.fhir.fhir_client import FhirFault
from hospital.fhir.reading.record_reader import RecordReader
from hospital.store.gateway_store import Store
from hospital.store.received import PatientId, StoreFull, StoreUnavailable
from hospital.store.state import StudyStage

_LOG = logging.getLogger("consilium.gateway")
_WATCHED = (StudyStage.ASSEMBLING, StudyStage.REQUESTED, StudyStage.ANSWERED)
_MOST_STUDIES = 500


@dataclass
class Polling:
    """Polls one server for as long as it runs.

    Attributes
    ----------
    interval_s : float
        Between the end of one round and the begin of the next.
    watched : timedelta
        How long after its last object a study's patient is asked for; a value may be corrected after the answer.
    counts : Counter
        Readings by what became of them: ``read``, ``failed``, ``postponed``.
    """

    store: Store
    reader: RecordReader
    interval_s: float = 60.0
    watched: timedelta = timedelta(days=1)
    counts: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            await self.round()
            await asyncio.sleep(self.interval_s)

    async def round(self) -> None:
        """Ask for every patient once. A server that is down ends the round; one patient's fault costs no other."""
        for patient in await asyncio.to_thread(self.patients):
            try:
                await self.read(patient)
            except FhirFault as fault:
                self.counts["postponed" if fault.transient else "failed"] += 1
                _LOG.warning("%s was not read: %s", self.reader.source.name, fault)
                if fault.transient:
                    return
            except (StoreFull, StoreUnavailable) as error:
                self.counts["postponed"] += 1
                _LOG.warning("%s was not read: %s", self.reader.source.name, error)
                return
            except Exception as error:  # noqa: BLE001 - whatever a server sends of one patient, the others are asked for
                self.counts["failed"] += 1
                _LOG.error("%s was not read: %s", self.reader.source.name, type(error).__name__)

    async def read(self, patient: PatientId) -> None:
        """Ask for one patient, from where the last time ended.

        Raises
        ------
        InputError, FhirFault, StoreFull, StoreUnavailable
            See `RecordReader.read`.
        """
        name = self._position(patient)
        since = await asyncio.to_thread(self.store.positions.get, name)
        until = await self.reader.read(patient, None if since is None else datetime.fromisoformat(since))
        await asyncio.to_thread(self.store.positions.set, name, until.isoformat())
        self.counts["read"] += 1

    def patients(self) -> list[PatientId]:
        """Those of open studies, under every identifier that the server may know."""
        since = self.store.clock() - self.watched
        studies = self.store.studies.listed(stages=_WATCHED, limit=_MOST_STUDIES)
        holders = dict.fromkeys(one.patient for one in studies if one.patient is not None and one.last >= since)
        known = (one for holder in holders for one in self.store.patients.same(holder))
        return list(dict.fromkeys(one for one in known if one.issuer == self.reader.source.issuer))

    def _position(self, patient: PatientId) -> str:
        """Nothing of a patient stands in it."""
        return f"fhir {self.store.key.digest('fhir position', self.reader.source.name, patient.value, patient.issuer)}"
