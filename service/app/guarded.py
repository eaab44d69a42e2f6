"""What every route does: it answers once the service is ready, receives a body in its time, and lets no error pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from consilium.domain.errors import InputError
from service.http.deadlines import arriving
from service.http.problems import Unavailable, problem_response
from service.observability.tracing import tracing
from service.serving.engine import Engine
from service.settings import Settings

if TYPE_CHECKING:
    from service.app.lifecycle import Lifecycle

Read = TypeVar("Read")

_MOST_DRAINED = 4 << 20
_DRAINED_WITHIN_S = 2.0
CLIENT_GONE = 499
"""What the access log shows where nobody waits for the answer any more; nginx's number."""


async def guarded(request: Request, answer: Callable[[Lifecycle], Awaitable[Response]]) -> Response:
    """The answer, or the problem that kept it from being made. No error passes."""
    try:
        running: Lifecycle | None = request.app.state.lifecycle
        if running is None or not running.engine.ready:
            raise Unavailable("The model is being loaded.", retry_after_s=5)
        return await answer(running)
    except ClientDisconnect:
        return Response(status_code=CLIENT_GONE)
    except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a compiled library's panic is no Exception
        return problem_response(error)


async def receive_body(
    request: Request, engine: Engine, read: Callable[[Headers, AsyncIterator[bytes], Settings], Awaitable[Read]]
) -> Read:
    settings = engine.settings
    with engine.metrics.stage("receive"), tracing.stage("receive"):
        async with arriving(request.stream(), settings.receive_timeout_s, settings.receive_bytes_per_s) as body:
            try:
                return await read(request.headers, body, settings)
            except InputError:
                await _drain(body)
                raise


async def _drain(body: AsyncIterator[bytes]) -> None:
    """Pass over a short rest of a body that is refused.

    A connection that is closed before all of it was read is reset, and the caller may never see why it was refused.
    """
    left = _MOST_DRAINED
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAINED_WITHIN_S):
            async for chunk in body:
                left -= len(chunk)
                if left < 0:
                    return
