"""The study worker: takes account of what arrives, and takes every study that is due a step further."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta

from hospital.store.received import StoreUnavailable
from hospital.store.state import StudyChanged
from hospital.studies.intake import Intake
from hospital.studies.study_walk import StudyWalk, Surroundings

logger = logging.getLogger("consilium.gateway")

AT_ONCE = 4
"""Studies on their way at a time; each holds the files of its images in memory while it is asked about."""
_POLL_S = 0.5


class StudyWorker:
    """Runs until it is cancelled. What it was doing then is done by the next one.

    Parameters
    ----------
    at_once : int
        Most studies on their way at a time.
    poll_s : float
        Seconds between two looks at what is due, where nothing arrives.
    """

    def __init__(self, surroundings: Surroundings, at_once: int = AT_ONCE, poll_s: float = _POLL_S) -> None:
        self._store = surroundings.store
        self._walk = StudyWalk(surroundings)
        quiet = [route.completeness.quiet for route in surroundings.routes]
        self._intake = Intake(surroundings.store, surroundings.clock, min(quiet, default=timedelta(0)))
        self._at_once = at_once
        self._poll_s = poll_s
        self._under_way: dict[str, asyncio.Task[object]] = {}

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                try:
                    await self.turn()
                except StoreUnavailable:
                    logger.warning("the store cannot be reached; the study worker waits")
                await asyncio.to_thread(self._wait)
        finally:
            for task in self._under_way.values():
                task.cancel()
            await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def turn(self) -> None:
        """Take account of everything that arrived, and set every study on its way that is due and has room."""
        with suppress(StudyChanged):
            while await asyncio.to_thread(self._intake.take):
                pass
        for state in await asyncio.to_thread(self._store.studies.due, 2 * self._at_once):
            if len(self._under_way) >= self._at_once:
                return
            if state.study not in self._under_way:
                self._start(state.study)

    async def settled(self) -> None:
        """Wait for the studies that are on their way."""
        await asyncio.gather(*self._under_way.values())

    def _start(self, study: str) -> None:
        task = asyncio.create_task(self._walk.step(study))
        self._under_way[study] = task
        task.add_done_callback(lambda _: self._under_way.pop(study, None))
        # A study that ends makes room for the next at once.
        task.add_done_callback(lambda _: self._store.arrived.set())

    def _wait(self) -> None:
        if self._store.arrived.wait(self._poll_s):
            self._store.arrived.clear()
