"""Work goes on only while its caller is connected, and within its time limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from service.http.problems import Overdue

Result = TypeVar("Result")


@asynccontextmanager
async def in_time(seconds: float, subject: str, status: HTTPStatus = HTTPStatus.GATEWAY_TIMEOUT) -> AsyncIterator[None]:
    """Cancels what happens inside after so many `seconds`.

    Parameters
    ----------
    subject : str
        What is late: ``The answer``.

    Raises
    ------
    Overdue
    """
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise Overdue(f"{subject} took longer than {seconds:g} s.", status) from None


@asynccontextmanager
async def arriving(
    body: AsyncIterator[bytes], seconds: float, bytes_per_s: float
) -> AsyncIterator[AsyncIterator[bytes]]:
    """`body`, which may take so many `seconds`, and longer as long as it comes at that rate: large ones need more.

    Raises
    ------
    Overdue
        Where it falls behind.
    """
    begun, received = asyncio.get_running_loop().time(), 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal received
        async for chunk in body:
            received += len(chunk)
            limit.reschedule(begun + seconds + received / bytes_per_s)
            yield chunk

    try:
        async with asyncio.timeout(seconds) as limit:
            yield counted()
    except TimeoutError:
        if not limit.expired():
            raise
        reason = f"The body arrived more slowly than {bytes_per_s:g} bytes/s, after {seconds:g} s."
        raise Overdue(reason, HTTPStatus.REQUEST_TIMEOUT) from None


async def while_connected(request: Request, answer: Awaitable[Result]) -> Result:
    """The answer; cancelled where the caller goes away first.

    Raises
    ------
    ClientDisconnect
    """
    work = asyncio.ensure_future(answer)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        work.add_done_callback(_discard_error)
        work.cancel()
        gone.cancel()


def _discard_error(work: asyncio.Future[Any]) -> None:
    """Take note of an error that nobody waits for any more: asyncio would log it whole, with what it quotes."""
    if not work.cancelled():
        work.exception()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
