"""The gateway's process: started and ended in order, ready when all of it is, never half running."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from consilium.domain.errors import ConsiliumError, InputError
from hospital.configuration.network_settings import Address
from hospital.delivery.lanes import Lanes
from hospital.running.gateway import Gateway, store_location
from hospital.running.gateway_metrics import CountedEvents
from hospital.running.http.http_server import bound
from hospital.store.gateway_store import Store, StoreTaken
from hospital.store.state import Delivery, DeliveryStage, QueuedDelivery, StudyStage, StudyState
from tests.hospital.clock import START
from tests.hospital.received_samples import ACCESSION, PATIENT, STUDY, observation
from tests.hospital.running.settings_sample import settings
from tests.patience import PATIENCE_S, until_async


class Listening:
    """A part that notes what is done with it."""

    def __init__(self, events: list[str], store: Store, fails: bool = False) -> None:
        self.events, self.store, self.fails = events, store, fails
        self.counts = Counter({("ORU", "accept"): 3})

    @property
    def listening(self) -> str:
        return "a port"

    async def start(self) -> None:
        if self.fails:
            raise InputError("hl7.port.listen", "127.0.0.1:1", "must be free")
        self.events.append("listens")

    async def stop(self) -> None:
        self.store.inbox.add(observation())  # The store is open until everything that listens has ended.
        self.events.append("listens no more")

    def count(self, events: CountedEvents) -> None:
        events.add("test_messages", "Messages", ["sender", "kind", "answer"], self.counts, "lis")


class Worker:
    def __init__(self, events: list[str], error: Exception | None = None) -> None:
        self.events, self.error = events, error

    async def run(self) -> None:
        self.events.append("works")
        if self.error is not None:
            raise self.error
        try:
            await asyncio.Event().wait()
        finally:
            self.events.append("works no more")


class Archive:
    def __init__(self) -> None:
        self.arrived: list[bytes] = []

    async def send(self, queued: QueuedDelivery) -> None:
        self.arrived.append(queued.delivery.content)

    async def close(self) -> None:
        pass


class Try:
    """One run of a gateway over a store in `folder`."""

    def __init__(self, folder: Path, error: Exception | None = None, fails: bool = False) -> None:
        self.events: list[str] = []
        self.archive = Archive()
        given = settings(folder)
        self.store = Store(store_location(given))
        parts = [Listening(self.events, self.store, fails)]
        lanes = Lanes({"archive": self.archive}, self.store.outbox, self.store.clock)
        self.gateway = Gateway(given, self.store, parts, Worker(self.events, error), lanes)

    def run(self, meanwhile: Callable[[httpx.AsyncClient], Awaitable[None]] | None = None) -> None:
        asyncio.run(asyncio.wait_for(self._run(meanwhile), PATIENCE_S))

    async def _run(self, meanwhile: Callable[[httpx.AsyncClient], Awaitable[None]] | None) -> None:
        stop, started = asyncio.Event(), asyncio.Event()
        running = asyncio.create_task(self.gateway.run(stop, started.set))
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if meanwhile is not None and not running.done():
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{self.gateway.http.port}", timeout=PATIENCE_S
            ) as client:
                await meanwhile(client)
        stop.set()
        await running


def test_what_listens_starts_last_and_ends_first(tmp_path: Path) -> None:
    tried = Try(tmp_path)

    tried.run()

    assert sorted(tried.events[:2]) == ["listens", "works"]
    assert tried.events[2:] == ["listens no more", "works no more"]
    again = Store(tried.store.location)
    again.take()  # The lock was given back.
    assert len(again.records.observations([PATIENT])) == 1
    again.close()


def test_a_running_gateway_is_alive_and_ready_and_shows_what_it_counts(tmp_path: Path) -> None:
    tried = Try(tmp_path)

    async def look(client: httpx.AsyncClient) -> None:
        state = StudyState(STUDY, PATIENT, ACCESSION, StudyStage.FAILED, START, START, problem="no image")
        await asyncio.to_thread(tried.store.studies.save, state)
        await asyncio.to_thread(tried.store.outbox.put, [Delivery("sr", "archive", "sr", b"SR")])
        await until_async(lambda: ("archive", DeliveryStage.SENT) in tried.store.outbox.counts())
        outcome = 'consilium_gateway_delivery_attempts_total{destination="archive",outcome="sent"}'
        while outcome not in (await client.get("/metrics")).text:
            await asyncio.sleep(0.05)
        assert (await client.get("/healthz")).json() == {"status": "alive"}
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        lines = (await client.get("/metrics")).text.splitlines()
        assert 'test_messages_total{answer="accept",kind="ORU",sender="lis"} 3.0' in lines
        assert 'consilium_gateway_studies{stage="failed"} 1.0' in lines
        assert 'consilium_gateway_deliveries{destination="archive",stage="sent"} 1.0' in lines
        assert 'consilium_gateway_delivery_attempts_total{destination="archive",outcome="sent"} 1.0' in lines
        assert 'consilium_gateway_destination_reachable{destination="archive"} 1.0' in lines
        assert "consilium_gateway_has_room 1.0" in lines
        assert not any(secret in "\n".join(lines) for secret in (PATIENT.value, STUDY, ACCESSION.value))
        assert (await client.get("/other")).status_code == 404

    tried.run(look)

    assert tried.archive.arrived == [b"SR"]


def test_a_gateway_without_room_is_not_ready_and_says_why(tmp_path: Path) -> None:
    tried = Try(tmp_path)

    async def look(client: httpx.AsyncClient) -> None:
        tried.store.inbox._watermark = replace(tried.store.inbox._watermark, free_bytes=1 << 62)
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (503, "the disk of the store is beyond its watermark")
        assert "consilium_gateway_has_room 0.0" in (await client.get("/metrics")).text
        tried.store.inbox._watermark = replace(tried.store.inbox._watermark, free_bytes=1)

    tried.run(look)


def test_a_worker_that_fails_ends_the_gateway_with_an_error(tmp_path: Path) -> None:
    tried = Try(tmp_path, error=KeyError("MRN-4711"))

    with pytest.raises(ConsiliumError, match=r"the study worker ended \(KeyError\)"):
        tried.run()
    assert "listens no more" in tried.events


def test_a_part_that_cannot_listen_ends_the_gateway_and_frees_the_store(tmp_path: Path) -> None:
    tried = Try(tmp_path, fails=True)

    with pytest.raises(InputError, match=r"hl7\.port\.listen"):
        tried.run()
    again = Store(tried.store.location)
    again.take()
    again.close()


def test_a_second_gateway_on_the_same_store_does_not_start(tmp_path: Path) -> None:
    first = Try(tmp_path)

    async def start_another(_: httpx.AsyncClient) -> None:
        with pytest.raises(StoreTaken):
            await Try(tmp_path).gateway.run(asyncio.Event())

    first.run(start_another)


def test_an_address_that_is_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"http\.listen: got '127\.0\.0\.1:{port}', must be an address of this"):
            bound(Address("127.0.0.1", port), "http.listen")
