"""Connections that dawdle: uvicorn gives a request's headers, and a body that nobody reads any more, all the time.

uvicorn's only time limit is for idle connections, and a single byte ends it. BentoML does not let its caller choose the
protocol class, so `limit_headers` puts ours where uvicorn finds its default one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from uvicorn.protocols.http import auto

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol as Protocol
else:
    Protocol = auto.AutoHTTPProtocol


class PromptProtocol(Protocol):
    """HTTP whose every request must have begun, headers and all, within `header_timeout_s` of its first byte.

    The same time is left for what remains of a body after its answer was sent.
    """

    header_timeout_s: ClassVar[float] = 10.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
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


def limit_headers(seconds: float) -> None:
    """Give connections that are made from now on `seconds` for the headers of a request."""
    PromptProtocol.header_timeout_s = seconds


def install() -> None:
    """Make uvicorn servers of this process that are configured from now on use `PromptProtocol`."""
    auto.AutoHTTPProtocol = PromptProtocol
