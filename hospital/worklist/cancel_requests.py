"""What others ask of our work items, as the worklist reports it over a WebSocket. PS3.18 11.13, PS3.4 CC.2.4."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable

import httpx

from hospital.worklist.event_channel import ChannelBroken, texts
from hospital.worklist.work_items import text_of

logger = logging.getLogger("consilium.gateway")

_CANCEL_REQUESTED, _STATUS_CHANGE = "2", "4"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 300.0


class CancelRequests:
    """The event channel of one worklist, opened anew when it breaks.

    Parameters
    ----------
    http : httpx.AsyncClient
        Of the worklist.
    request : callable
        Called with the UID of a work item whose cancellation somebody asks for.
    opened : callable
        Called when the channel was opened, and when the worklist says that it was started anew: what was asked before
        may not have been heard, and who had subscribed be forgotten.
    """

    def __init__(
        self,
        name: str,
        http: httpx.AsyncClient,
        ae_title: str,
        request: Callable[[str], Awaitable[None]],
        opened: Callable[[], Awaitable[None]],
    ) -> None:
        self._name, self._http, self._request, self._opened = name, http, request, opened
        self._url = f"{str(http.base_url).rstrip('/')}/subscribers/{ae_title}"

    async def run(self) -> None:
        """Listen until cancelled."""
        failures = 0
        while True:
            try:
                async for event in texts(self._http, self._url):
                    failures = 0
                    await (self._take(event) if event else self._opened())
            except ChannelBroken as error:
                if not failures:
                    logger.warning("cancel requests of %s are not seen now: %s", self._name, error)
            await asyncio.sleep(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(failures, 20)))
            failures += 1

    async def _take(self, event: str) -> None:
        try:
            told = json.loads(event)
        except (ValueError, RecursionError):
            return
        kind = text_of(told, "00001002") if isinstance(told, dict) else ""
        if kind == _CANCEL_REQUESTED:
            await self._request(text_of(told, "00001000"))
        elif kind == _STATUS_CHANGE:
            await self._opened()
