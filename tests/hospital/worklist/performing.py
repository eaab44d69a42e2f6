"""A performer with a real store, a worklist's double, and studies that are what a test says."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import httpx

from consilium.databases.database import read_url
from consilium.formats.time_zone import TimeZone
from hospital.store.gateway_store import Store, StoreLocation
from hospital.worklist.performed_steps import Output
from hospital.worklist.performer import (
    ANSWERED,
    DELIVERED,
    FETCHED,
    InputUnavailable,
    Performer,
    PerformerRules,
    Standing,
)
from hospital.worklist.performing import Performing, Wanted
from hospital.worklist.work_items import CodedConcept
from hospital.worklist.worklist_server import WorklistServer
from tests.hospital.clock import SetClock
from tests.hospital.worklist.ups_server import UpsServer

STATION = CodedConcept("CONSILIUM", "99CONSILIUM", "Consilium gateway")
SR = "1.2.840.10008.5.1.4.1.1.88.34"


@dataclass
class MadeUpStudies:
    """`hospital.worklist.performer.Studies` of which a test sets the standing."""

    away: bool = False
    patients: frozenset[str] = frozenset({"4711"})
    fetched: Counter[str] = field(default_factory=Counter)
    begun: Counter[str] = field(default_factory=Counter)
    withdrawn: list[str] = field(default_factory=list)
    standings: dict[str, Standing] = field(default_factory=dict)

    async def fetch(self, study: str) -> None:
        if self.away:
            raise InputUnavailable("archive: no answer")
        self.fetched[study] += 1

    async def begin(self, study: str) -> None:
        self.begun[study] += 1

    async def standing(self, study: str) -> Standing:
        return replace(self.standings.get(study, Standing(FETCHED, "its input is there")), patients=self.patients)

    async def withdraw(self, study: str) -> None:
        self.withdrawn.append(study)

    def answer(self, study: str) -> None:
        self.standings[study] = Standing(ANSWERED, "its results are being delivered")

    def deliver(self, study: str) -> None:
        outputs = (Output(study, f"{study}.9", SR, f"{study}.9.1", ae_title="PACS"),)
        self.standings[study] = Standing(DELIVERED, "its results are delivered", outputs=outputs)


@dataclass
class Site:
    """One gateway at a worklist."""

    folder: Path
    worklist: UpsServer
    studies: MadeUpStudies = field(default_factory=MadeUpStudies)
    clock: SetClock = field(default_factory=SetClock)
    at_once: int = 4
    transport: httpx.AsyncBaseTransport | None = None
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        url = read_url(f"sqlite:///{self.folder / 'gateway.db'}", "store.url")
        self.store = Store(StoreLocation(url, self.folder, self.folder / "key", free_bytes=1), self.clock)
        self.store.take()
        self.start(self.transport)

    def start(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """A new process on the same store."""
        server = WorklistServer("orders", self.worklist.client(transport))
        rules = PerformerRules(STATION, "CONSILIUM", TimeZone("UTC"), timedelta(hours=1))
        self.performer = Performer(server, self.store.claims, self.studies, rules, self.clock)
        wanted = Wanted(frozenset({("CHEST-AI", "99SITE")}), STATION.value, TimeZone("UTC"), self.at_once)
        self.performing = Performing(server, self.store.claims, self.performer, wanted, self.clock)

    async def turns(self, number: int = 1) -> None:
        """So many turns, between which what was put off becomes due."""
        for _ in range(number):
            await self.performing.turn()
            self.clock.move(minutes=6)

    def stages(self) -> dict[str, str]:
        return {one.item: one.stage.value for one in self.store.claims.listed()}
