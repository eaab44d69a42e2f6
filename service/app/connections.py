"""Connections that dawdle, or are too many.

uvicorn gives a request's headers, and a body that nobody reads any more, all the time: its only time limit is for idle
connections, and a single byte ends it. Its limit of connections answers liveness no more than anything else, and says
not when to come again. BentoML does not let its caller choose the protocol class, so `install` puts ours where uvicorn
finds its default one.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http import auto

from service.auth.middleware import OPEN
from service.http.problems import Unavailable, problem_response

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol as Protocol
else:
    Protocol = auto.AutoHTTPProtocol


_COME_AGAIN_S = 5


class PromptProtocol(Protocol):
    """HTTP whose every request must have begun, headers and all, within `header_timeout_s` of its first byte.

    The same time is left for what remains of a body after its answer was sent. A connection beyond the first
    `most_open` is told to come again, and closed; one beyond twice as many is closed at once.
    """

    header_timeout_s: ClassVar[float] = 10.0
    most_open: ClassVar[int] = 512
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > 2 * self.most_open:
            transport.close()
        elif len(self.connections) > self.most_open:
            self.app = partial(_refuse, self.app)
        self._arm()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._answering():
            self._disarm()
        else:
            self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _answering(self) -> bool:
        """Whether a request is at the application, which has time limits of its own."""
        return self.cycle is not None and not self.cycle.response_complete

    def _arm(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.header_timeout_s, self._cut_off)

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
    answer = problem_response(Unavailable("As many connections are open as may.", _COME_AGAIN_S))
    answer.headers["Connection"] = "close"
    await answer(scope, receive, send)


def limit(*, header_timeout_s: float, most_open: int) -> None:
    """Of connections that are made from now on: the time for the headers of a request, and how many may be open."""
    PromptProtocol.header_timeout_s = header_timeout_s
    PromptProtocol.most_open = most_open


def install() -> None:
    """Make uvicorn servers of this process that are configured from now on use `PromptProtocol`."""
    auto.AutoHTTPProtocol = PromptProtocol
