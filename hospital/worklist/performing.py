"""All work items of one worklist: goes on with what was claimed, and claims more where there is room."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from uuid import uuid4

from consilium.formats.time_zone import TimeZone
from hospital.store.claims import OPEN_CLAIMS, Claim, Claims, ClaimStage
from hospital.store.clock import Clock
from hospital.store.received import StoreUnavailable
from hospital.worklist.performer import Performer
from hospital.worklist.work_items import READINESS, STATE, WORKITEM_CODE, WorkItem, read_work_item
from hospital.worklist.worklist_server import WorklistFailure, WorklistServer

logger = logging.getLogger("consilium.gateway")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which work items are done here.

    Attributes
    ----------
    codes : frozenset of (str, str)
        Code value and coding scheme of the scheduled workitem.
    station : str, optional
        Code value of the gateway as a station: what is scheduled for others is left to them.
    at_once : int
        Most work items under way.
    """

    codes: frozenset[tuple[str, str]]
    station: str | None
    zone: TimeZone
    at_once: int = 4
    has_room: Callable[[], bool] = field(default=lambda: True, repr=False)


class Performing:
    """Works until it is cancelled; what it was doing then is gone on with after the next start."""

    def __init__(
        self, server: WorklistServer, claims: Claims, performer: Performer, wanted: Wanted, clock: Clock
    ) -> None:
        self.performer = performer
        self._server, self._claims, self._wanted, self._now = server, claims, wanted, clock
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._woken = asyncio.Event()

    async def run(self, every_s: float, look_every_s: float) -> None:
        """Work until cancelled: look for work items every so many seconds, more often while some are under way."""
        while True:
            under_way = True
            try:
                under_way = await self.turn()
            except StoreUnavailable:
                logger.warning("the store cannot be reached; the worklist %s waits", self._server.name)
            except WorklistFailure as error:
                logger.warning("the worklist cannot be searched: %s", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), look_every_s if under_way else every_s)
            self._woken.clear()

    async def turn(self) -> bool:
        """Take every claim that is due a step further, and claim what there is room for; whether any is under way.

        Raises
        ------
        WorklistFailure
            It cannot be searched.
        """
        claims = await asyncio.to_thread(self._claims.open, self._server.name)
        await asyncio.gather(*(self._step(one.item) for one in claims if one.due <= self._now()))
        under_way = await asyncio.to_thread(self._claims.open, self._server.name)
        room = self._wanted.at_once - len(under_way)
        if room > 0 and self._wanted.has_room():
            return bool(await self._claim(room)) or bool(under_way)
        return True

    async def request_cancellation(self, item: str) -> None:
        """Somebody asked for the cancellation of a work item, which may be none of ours."""
        async with self._locks[item]:
            claim = await asyncio.to_thread(self._claims.get, self._server.name, item)
            if claim is not None and claim.stage in OPEN_CLAIMS:
                await asyncio.to_thread(self._claims.save, replace(claim, cancel=True, due=self._now()))
        self._locks.pop(item, None)
        self._woken.set()

    async def channel_opened(self) -> None:
        """What was asked of our work items while the event channel was closed is to be looked for."""
        for one in await asyncio.to_thread(self._claims.open, self._server.name):
            async with self._locks[one.item]:
                claim = await asyncio.to_thread(self._claims.get, self._server.name, one.item)
                if claim is not None and claim.stage in OPEN_CLAIMS:
                    await asyncio.to_thread(self._claims.save, replace(claim, unheard=True, due=self._now()))
        self._woken.set()

    async def _step(self, item: str) -> None:
        async with self._locks[item]:
            claim = await asyncio.to_thread(self._claims.get, self._server.name, item)
            if claim is not None and claim.stage in OPEN_CLAIMS:
                claim = await self.performer.step(claim)
        if claim is None or claim.stage not in OPEN_CLAIMS:
            self._locks.pop(item, None)

    async def _claim(self, room: int) -> int:
        """Claim at most so many work items; how many were tried."""
        chosen = sorted(await self._found(), key=lambda one: (one.rank, one.start or self._now()))[:room]
        for one in chosen:
            now = self._now()
            claim = Claim(
                self._server.name, one.item, f"2.25.{uuid4().int}", ClaimStage.CLAIMING, now, now, one.studies
            )
            await asyncio.to_thread(self._claims.save, claim)
            await self._step(one.item)
        return len(chosen)

    async def _found(self) -> list[WorkItem]:
        """Work items that are scheduled, ready, ours to do, and new."""
        found: dict[str, WorkItem] = {}
        for value, _ in sorted(self._wanted.codes):
            asked = {STATE: "SCHEDULED", READINESS: "READY", f"{WORKITEM_CODE}.00080100": value}
            async for data_set in self._server.search(asked):
                one = read_work_item(data_set, self._wanted.zone)
                if one is not None and self._is_wanted(one):
                    found[one.item] = one
        known = await asyncio.to_thread(self._known, list(found))
        return [one for item, one in found.items() if item not in known]

    def _known(self, items: list[str]) -> set[str]:
        return {item for item in items if self._claims.get(self._server.name, item) is not None}

    def _is_wanted(self, one: WorkItem) -> bool:
        """A worklist may give more than it was asked for."""
        wanted = self._wanted
        code = None if one.code is None else (one.code.value, one.code.scheme)
        return (
            (one.state, one.ready) == ("SCHEDULED", True)
            and code in wanted.codes
            and (not one.stations or wanted.station in one.stations)
            and (one.start is None or one.start <= self._now())
            and bool(one.studies)
        )
