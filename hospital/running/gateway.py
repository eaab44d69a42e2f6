"""The gateway: one store, what listens for it, the study worker, the lanes of the outbox, and HTTP routes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol

from starlette.routing import BaseRoute

from consilium.domain.errors import ConsiliumError
from hospital.configuration.gateway_settings import GatewaySettings
from hospital.delivery.lanes import Lanes
from hospital.running.gateway_metrics import CountedEvents, StoreGauges, exposition
from hospital.running.http.http_routes import http_routes
from hospital.running.http.http_server import HttpServer
from hospital.running.parts import Part
from hospital.store.gateway_store import Store, StoreLocation
from hospital.store.received import StoreUnavailable
from hospital.store.retention import purge

logger = logging.getLogger("consilium.gateway")

_PURGE_EVERY_S = 3600.0


class Worker(Protocol):
    """What makes answers of studies; `hospital.studies.worker.StudyWorker`."""

    async def run(self) -> None: ...


def store_location(settings: GatewaySettings) -> StoreLocation:
    """Where the store lies.

    Raises
    ------
    InputError
    """
    given = settings.store
    return StoreLocation(given.database_url(), given.folder, given.key_file, given.free)


class Gateway:
    """Runs until it is stopped, or until a part of it fails.

    Parameters
    ----------
    store : Store
        Not taken yet.
    parts : sequence of Part
    worker : Worker
    lanes : Lanes
    routes : sequence of routes
        Beside those of health and metrics, such as STOW-RS.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        store: Store,
        parts: Sequence[Part],
        worker: Worker,
        lanes: Lanes,
        routes: Sequence[BaseRoute] = (),
    ) -> None:
        self._settings = settings
        self._store = store
        self._parts = parts
        self._worker = worker
        self._lanes = lanes
        self._started = False
        events = CountedEvents()
        for part in parts:
            part.count(events)
        for name, lane in lanes.lanes.items():
            description = "Attempts to deliver by destination and outcome"
            labels = ("destination", "outcome")
            events.add("consilium_gateway_delivery_attempts", description, labels, lane.outcomes, name)
        gauges = StoreGauges(store, lambda: lanes)
        application = http_routes(self._unready, lambda: exposition(events, gauges), routes)
        self.http = HttpServer(application, settings.http.listen)

    async def run(self, stop: asyncio.Event, started: Callable[[], None] = lambda: None) -> None:
        """Start everything, wait for `stop`, and end in order: first what listens, last the store.

        Raises
        ------
        ConsiliumError
            It cannot start, or a part of it failed.
        """
        async with AsyncExitStack() as stack:
            stack.callback(self._store.close)
            await asyncio.to_thread(self._store.take)
            await self.http.start()
            stack.push_async_callback(self.http.stop)
            background = [
                self._background(stack, name, work)
                for name, work in (
                    ("study worker", self._worker.run()),
                    ("outbox", self._lanes.run()),
                    ("retention", self._retention()),
                )
            ]
            await self._listen(stack)
            self._started = True
            logger.info("the gateway runs; http %s:%d", self._settings.http.listen.host, self.http.port)
            started()
            await self._stopped(stop, background)
            self._started = False
            logger.info("the gateway ends")

    async def _listen(self, stack: AsyncExitStack) -> None:
        for part in self._parts:
            await part.start()
            stack.push_async_callback(part.stop)
            logger.info("listening: %s", part.listening)

    def _background(self, stack: AsyncExitStack, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        stack.push_async_callback(end)
        return task

    async def _stopped(self, stop: asyncio.Event, background: Sequence[asyncio.Task[None]]) -> None:
        """Until somebody stops it; raises where something that runs for good has ended."""
        waiting = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([waiting, *background], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        for task in background:
            if task in done:
                error = task.exception()
                logger.error("the %s ended", task.get_name(), exc_info=error)
                raise ConsiliumError(f"the {task.get_name()} ended ({type(error).__name__})") from error

    async def _retention(self) -> None:
        while True:
            try:
                purged = await asyncio.to_thread(purge, self._store, self._settings.store.keep)
                await asyncio.to_thread(self._store.remove_unnamed)
                logger.info("retention deleted %d records and %d studies", purged.records, purged.studies)
            except StoreUnavailable:
                logger.warning("the store cannot be reached; retention waits")
            await asyncio.sleep(_PURGE_EVERY_S)

    def _unready(self) -> str | None:
        if not self._started:
            return "not started, or ending"
        if not self._store.inbox.has_room:
            return "the disk of the store is beyond its watermark"
        try:
            self._store.studies.counts()
        except StoreUnavailable:
            return "the store cannot be reached"
        return None
