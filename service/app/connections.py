"""Connections that are slow to send a request, or too many.

uvicorn has no time limit for a request's headers, nor for the rest of a body that nobody reads after the answer: its
only one is for idle connections, and a single byte ends it. Its limit of connections refuses liveness probes, too, and
sets no ``Retry-After``. uvicorn takes another protocol class with its option ``http``, which BentoML does not pass on.
`ConnectionLimits` therefore sets it for the one server that runs the application, when that starts, and for no other.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.auth.middleware import OPEN
from service.http.problems import Unavailable, problem_response

logger = logging.getLogger("consilium.service")

_RETRY_AFTER_S = 5


@dataclass
class Limits:
    """Of the connections of a server; read whenever one is made.

    Attributes
    ----------
    header_timeout_s : float
        How long the headers of a request may take.
    most_open : int
        How many connections may be open.
    """

    header_timeout_s: float = 10.0
    most_open: int = 512


class LimitedProtocol(HttpToolsProtocol):
    """HTTP whose every request must have begun, headers and all, within `Limits.header_timeout_s` of its first byte.

    The same time is left for what remains of a body after its answer was sent. A connection beyond the first
    `Limits.most_open` is answered 503 and closed; one beyond twice as many is closed at once.

    Large pieces of a body go to the application as they come: uvicorn's own bytearray costs two copies of each.
    """

    _deadline: asyncio.TimerHandle | None = None

    def __init__(self, *given: Any, limits: Limits, **named: Any) -> None:
        super().__init__(*given, **named)
        self._limits = limits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > 2 * self._limits.most_open:
            transport.close()
        elif len(self.connections) > self._limits.most_open:
            self.app = partial(_refuse, self.app)
        self._arm()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._answering():
            self._disarm()
        else:
            self._arm()

    def on_body(self, body: bytes) -> None:
        held: object = self.cycle.body
        if not held and len(body) >= HIGH_WATER_LIMIT:
            self.cycle.body = b""  # type: ignore[assignment]  # neither += nor bytes() copies what is added to it
        elif isinstance(held, bytes):
            self.cycle.body = bytearray(held)  # of many small pieces, each would copy all before it
        super().on_body(body)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _answering(self) -> bool:
        """Whether a request is at the application, which has time limits of its own."""
        return self.cycle is not None and not self.cycle.response_complete

    def _arm(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self._limits.header_timeout_s, self._cut_off)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut_off(self) -> None:
        self._deadline = None
        if not self._answering():
            self.transport.close()


async def _refuse(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer for `app`, unless it is asked whether it lives: a full service is not restarted for that."""
    if scope["path"] in OPEN:
        await app(scope, receive, send)
        return
    answer = problem_response(Unavailable("Too many connections are open.", _RETRY_AFTER_S))
    answer.headers["Connection"] = "close"
    await answer(scope, receive, send)


class ConnectionLimits:
    """ASGI middleware that puts `limits` on the connections of the server which runs the application.

    Parameters
    ----------
    app : ASGIApp
    limits : Limits
        May be changed until the start of the application is complete.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            _limit(receive, self._limits)
        await self._app(scope, receive, send)


def _limit(receive: Receive, limits: Limits) -> None:
    """Of uvicorn, `receive` is a method of what holds the server's configuration; it accepts connections later."""
    config = getattr(getattr(receive, "__self__", None), "config", None)
    if isinstance(config, Config):
        config.http_protocol_class = partial(LimitedProtocol, limits=limits)  # type: ignore[assignment]
    else:
        logger.error("this server is not uvicorn: header_timeout_s and max_connections have no effect")
