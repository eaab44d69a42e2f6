"""Plays planned studies against a store and a study worker; the gateway and the service die amid them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from hospital.store.state import Delivery
from hospital.studies.answered_study import AnsweredStudy
from tests.hospital.clock import SetClock
from tests.hospital.studies.hospital_double import Hospital
from tests.hospital.studies.records import NOON, instance
from tests.hospital.studies.service_double import Asked, ServiceDouble
from tests.soak_hospital.planned_studies import Mishap, PlannedStudy, planned, timeline

UNREADABLE = "unreadable"


class Died(BaseException):
    """The process ends here: nothing catches it, nothing is put in order."""


@dataclass
class Archive:
    """A destination: what it was sent, by key, as often as it was sent."""

    received: dict[str, bytes] = field(default_factory=dict)
    order: list[tuple[str, str]] = field(default_factory=list)
    times: Counter[str] = field(default_factory=Counter)

    def store(self, delivery: Delivery) -> None:
        self.times[delivery.key] += 1
        if delivery.key not in self.received:
            self.order.append((str(delivery.study), delivery.key))
        self.received[delivery.key] = delivery.content


@dataclass
class Played:
    """What came of a campaign."""

    studies: list[PlannedStudy]
    hospital: Hospital
    archives: dict[str, Archive]
    deaths: Counter[str]


def build(study: AnsweredStudy) -> Sequence[Delivery]:
    """An object a destination that names everything it was made of."""
    revision = study.revision.revision
    images = sorted(f"{one.sop_instance} {one.digest}" for one in study.images)
    values = sorted(one["value"] for one in study.records.get("observations", []))
    content = repr((study.patient and study.patient.value, images, values)).encode()
    return [Delivery(f"{name} {revision}", name, "sr", content, study.study, revision) for name in study.destinations]


class Campaign:
    """One run over a folder."""

    def __init__(self, folder: Path, studies: int, seed: int, share: float) -> None:
        rng = random.Random(seed)
        self.studies = [planned(n, NOON + timedelta(seconds=20 * n), rng, share) for n in range(studies)]
        self._rng = rng
        self._service = ServiceDouble(refuse=self._refuse, before_answer=self._strike)
        self._hospital = Hospital(folder, SetClock(NOON), self._service, build=build)
        self._archives = {"pacs": Archive(), "ris": Archive()}
        self._deaths = Counter[str]()
        self._armed: Mishap | None = None
        self._countdown = 0

    def play(self, tell: Callable[[str], None] = lambda _: None) -> Played:
        for arrived, (when, study, event) in enumerate(timeline(self.studies)):
            self._work_until(when)
            self._arm(study)
            self._hospital.receive(*event.records)
            if arrived % 500 == 499:
                tell(f"{arrived} arrivals, {self._deaths.total()} deaths")
        self._work_until(self._hospital.clock() + timedelta(hours=3))
        return Played(self.studies, self._hospital, self._archives, self._deaths)

    def _arm(self, study: PlannedStudy) -> None:
        """Something dies at one of the next steps."""
        for mishap in (Mishap.GATEWAY_DIED, Mishap.SERVICE_DIED, Mishap.DELIVERY_DIED):
            if mishap in study.mishaps and self._armed is None:
                self._armed, self._countdown = mishap, self._rng.randint(1, 5)

    def _work_until(self, when: Any) -> None:
        """Work, at least each minute, until the clock shows `when`."""
        clock = self._hospital.clock
        while True:
            self._turn()
            if clock() >= when:
                return
            clock.now = min(when, clock() + timedelta(seconds=45))

    def _turn(self) -> None:
        try:
            asyncio.run(self._hospital_turn())
            self._deliver()
        except Died:
            self._deaths[Mishap.GATEWAY_DIED] += 1
            self._hospital = self._hospital.restarted()

    async def _hospital_turn(self) -> None:
        worker, store = self._hospital.worker, self._hospital.store
        await worker.turn()
        await worker.settled()
        while store.studies.due(1):
            await worker.turn()
            await worker.settled()

    def _deliver(self) -> None:
        outbox = self._hospital.store.outbox
        for name, archive in self._archives.items():
            while (queued := outbox.next(name)) is not None:
                archive.store(queued.delivery)
                if self._strikes(Mishap.DELIVERY_DIED):
                    raise Died
                outbox.sent(queued.number)

    def _strike(self, request: httpx.Request) -> None:
        """Called when the service has done what it was asked, before the answer goes out."""
        if self._strikes(Mishap.GATEWAY_DIED):
            raise Died
        if self._strikes(Mishap.SERVICE_DIED):
            self._deaths[Mishap.SERVICE_DIED] += 1
            raise httpx.ReadError("the service died")

    def _strikes(self, mishap: Mishap) -> bool:
        if self._armed is not mishap:
            return False
        self._countdown -= 1
        if self._countdown > 0:
            return False
        self._armed = None
        return True

    def _refuse(self, asked: Asked) -> dict[str, Any] | None:
        broken = instance(80, UNREADABLE).digest.encode()
        if broken in asked.images:
            return {"field": f"images[{asked.images.index(broken)}].PixelData", "rule": "must not be truncated"}
        return None
