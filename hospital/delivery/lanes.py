"""Lanes: each destination has its own, which sends what the outbox holds for it, in order, until it arrived.

What fails for good goes to the dead letters, what fails for now is tried again, and neither keeps anything else
waiting: not the next object, and not another destination.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

from hospital.delivery.backoff import Backoff
from hospital.delivery.destinations import DeliverySender, Refused, TryAgain, Unreachable
from hospital.store.clock import Clock
from hospital.store.outbox import Outbox
from hospital.store.received import StoreUnavailable
from hospital.store.state import QueuedDelivery

logger = logging.getLogger("consilium.gateway")

LONGEST_SEND = timedelta(minutes=10)
GIVE_UP = timedelta(days=7)
"""After which a delivery that is tried again and again is given to a person."""
_LOOK_EVERY_S = 1.0


class Lane:
    """Sends what the outbox holds for one destination.

    Attributes
    ----------
    outcomes : Counter of str
        Attempts by what became of them: ``sent``, ``unreachable``, ``postponed``, ``refused``.
    reachable : bool
        Whether the last attempt had an answer.
    """

    def __init__(
        self,
        destination: str,
        sender: DeliverySender,
        outbox: Outbox,
        backoff: Backoff,
        clock: Clock,
        give_up: timedelta = GIVE_UP,
    ) -> None:
        self.destination = destination
        self.outcomes = Counter[str]()
        self.reachable = True
        self._sender = sender
        self._outbox = outbox
        self._backoff = backoff
        self._clock = clock
        self._give_up = give_up
        self._unanswered = 0

    async def step(self) -> bool:
        """Send one object that is due; False where none is."""
        queued = await asyncio.to_thread(self._outbox.next, self.destination)
        if queued is None:
            return False
        if not await asyncio.to_thread(self._outbox.begin, queued.number):
            return True  # superseded or dropped since it was read
        outcome = await self._attempt(queued)
        self.outcomes[outcome] += 1
        return True

    async def close(self) -> None:
        await self._sender.close()

    async def _attempt(self, queued: QueuedDelivery) -> str:
        try:
            async with asyncio.timeout(LONGEST_SEND.total_seconds()):
                await self._sender.send(queued)
        except Refused as error:
            return await self._dead(queued, str(error))
        except (Unreachable, TimeoutError) as error:
            return await self._unreachable(str(error) or "no answer in time")
        except TryAgain as error:
            return await self._postponed(queued, str(error))
        except Exception as error:
            logger.exception("a delivery to %s failed", self.destination)
            return await self._postponed(queued, type(error).__name__)
        await asyncio.to_thread(self._outbox.sent, queued.number)
        self._answered()
        return "sent"

    async def _dead(self, queued: QueuedDelivery, problem: str) -> str:
        self._answered()
        logger.error("%s refuses delivery %d: %s", self.destination, queued.number, problem)
        await asyncio.to_thread(self._outbox.dead, queued.number, problem)
        return "refused"

    async def _postponed(self, queued: QueuedDelivery, problem: str) -> str:
        self._answered()
        due = self._clock() + self._backoff.pause(queued.attempts + 1)
        await asyncio.to_thread(self._outbox.failed, queued.number, due, problem)
        await self._expire(queued.number)
        return "postponed"

    async def _unreachable(self, problem: str) -> str:
        self.reachable = False
        self._unanswered += 1
        due = self._clock() + self._backoff.pause(self._unanswered)
        if self._unanswered == 1:
            logger.warning("%s cannot be reached: %s", self.destination, problem)
        await asyncio.to_thread(self._outbox.postpone, self.destination, due, problem)
        await self._expire()
        return "unreachable"

    async def _expire(self, number: int | None = None) -> None:
        """Only after an attempt: what was put in while the gateway stood still is tried before it is given up."""
        before = self._clock() - self._give_up
        given_up = await asyncio.to_thread(self._outbox.expire, self.destination, before, number)
        if given_up:
            logger.error("%d deliveries to %s are given up: not taken for too long", given_up, self.destination)

    def _answered(self) -> None:
        if self._unanswered:
            logger.info("%s can be reached again", self.destination)
        self.reachable, self._unanswered = True, 0


class Lanes:
    """All lanes, side by side, until they are cancelled.

    Parameters
    ----------
    sleep : callable
        Waits for a number of seconds.
    give_up : timedelta
        How long a delivery is tried.
    """

    def __init__(
        self,
        senders: Mapping[str, DeliverySender],
        outbox: Outbox,
        clock: Clock,
        backoff: Backoff | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        give_up: timedelta = GIVE_UP,
    ) -> None:
        pauses = backoff or Backoff()
        self.lanes = {name: Lane(name, sender, outbox, pauses, clock, give_up) for name, sender in senders.items()}
        self._sleep = sleep

    async def run(self) -> None:
        """Send until cancelled; what is being sent then is sent again by the next process."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.Event().wait())  # Without a destination, too, it runs until it is cancelled.
                for lane in self.lanes.values():
                    group.create_task(self._run(lane))
        finally:
            await asyncio.gather(*(lane.close() for lane in self.lanes.values()), return_exceptions=True)

    async def _run(self, lane: Lane) -> None:
        while True:
            try:
                sent = await lane.step()
            except StoreUnavailable:
                logger.warning("the store cannot be reached; the lane of %s waits", lane.destination)
                sent = False
            if not sent:
                await self._sleep(_LOOK_EVERY_S)
