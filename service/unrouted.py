"""Where no door of ours is, BentoML answers in plain text; the caller gets a problem all the same."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import MEDIA_TYPE, problem_response

_REPLACED = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.INTERNAL_SERVER_ERROR})
"""What BentoML and Starlette answer by themselves. Health, which machines ask, is none of these."""


class Unrouted:
    """ASGI middleware directly around BentoML's application.

    Routes of our own would not do: no route of Starlette's matches a path with a line break in it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        instead: Response | None = None

        async def answer(message: Message) -> None:
            nonlocal instead
            if message["type"] == "http.response.start":
                instead = _instead(message)
                if instead is not None:
                    await instead(scope, receive, send)
            if instead is None:
                await send(message)

        await self._app(scope, receive, answer)


def _instead(start: Message) -> Response | None:
    """The problem to answer with where a response that begins with `start` is an error, and none yet."""
    headers = Headers(raw=start.get("headers", []))
    if start["status"] not in _REPLACED or headers.get("content-type") == MEDIA_TYPE:
        return None
    allowed = headers.get("allow")
    return problem_response(HTTPException(start["status"], headers=None if allowed is None else {"Allow": allowed}))
