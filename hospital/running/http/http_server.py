"""The HTTP server, within the gateway's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from consilium.domain.errors import InputError
from hospital.configuration.network_settings import Address

_BACKLOG = 128
_GRACE_S = 10


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the gateway's."""
        yield


class HttpServer:
    """Serves an application; to be started and stopped once."""

    def __init__(self, application: ASGIApp, listen: Address) -> None:
        config = uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_GRACE_S,
            server_header=False,
        )
        self._server = _Server(config)
        self._listen = listen
        self._task: asyncio.Task[None] | None = None
        self.port = listen.port

    async def start(self) -> None:
        """Listen.

        Raises
        ------
        InputError
            The address is in use, or none of this machine.
        """
        listener = bound(self._listen, "http.listen")
        self.port = listener.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def stop(self) -> None:
        """Answer what was asked, and end."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


def bound(listen: Address, field: str) -> socket.socket:
    """A listening socket at an address.

    Raises
    ------
    InputError
    """
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    try:
        return socket.create_server((listen.host, listen.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        rule = f"must be an address of this machine that is free ({error.strerror or type(error).__name__})"
        raise InputError(field, str(listen), rule) from None
