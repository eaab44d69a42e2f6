"""JSON bodies of a few kilobytes, as sign-in and feedback have."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from starlette.requests import Request

from consilium.domain.errors import TooLarge, UnsupportedMedia
from service.http.multipart import parse_header, refuse_encoded
from service.http.problems import Overdue


async def read_json(request: Request, most_bytes: int, seconds: float) -> bytes:
    """The body of `request`, whose type must be JSON.

    Raises
    ------
    Overdue, TooLarge, UnsupportedMedia
    """
    try:
        async with asyncio.timeout(seconds):
            return await _body(request, most_bytes)
    except TimeoutError:
        reason = f"The body took longer than {seconds:g} s to arrive."
        raise Overdue(reason, HTTPStatus.REQUEST_TIMEOUT) from None


async def _body(request: Request, most_bytes: int) -> bytes:
    content_type, _ = parse_header(request.headers.get("content-type", ""))
    if content_type != "application/json":
        raise UnsupportedMedia("Content-Type", content_type, "must be application/json")
    refuse_encoded(request.headers)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise TooLarge("body", f"more than {most_bytes} bytes", f"must hold at most {most_bytes} bytes")
    return bytes(body)
