"""Where no route of ours is, BentoML answers in plain text, and the caller gets a problem instead; or it redirects.

Its redirects, which add or take away a slash at the end, name the scheme and path that this process sees. Behind a
proxy these are not the caller's, so they are made relative.
"""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import unquote, urlsplit, urlunsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.problems import MEDIA_TYPE, problem_response

_PAGE_TYPE = "text/html"
"""The reading page says itself, in the reader's language, that there is no such page."""
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
                _make_redirect_relative(message, scope["path"])
                instead = _instead(message)
                if instead is not None:
                    await instead(scope, receive, send)
            if instead is None:
                await send(message)

        await self._app(scope, receive, answer)


def _make_redirect_relative(start: Message, path: str) -> None:
    """Of a redirect from `path` to the same path with a slash more, or with none, at its end."""
    headers = MutableHeaders(scope=start)
    place = urlsplit(headers.get("location", ""))
    name = place.path.rstrip("/").rpartition("/")[2]
    is_same = unquote(place.path).rstrip("/") == path.rstrip("/")
    if start["status"] // 100 != 3 or not place.netloc or not name or not is_same:
        return
    if path.endswith("//"):  # Clients do not agree on what is relative to such a path.
        start["status"] = HTTPStatus.NOT_FOUND
        return
    relative = f"{name}/" if place.path.endswith("/") else f"../{name}"
    headers["location"] = urlunsplit(("", "", relative, place.query, ""))


def _instead(start: Message) -> Response | None:
    """The problem to answer with where a response that begins with `start` is an error, and none yet."""
    headers = Headers(raw=start.get("headers", []))
    is_ours = headers.get("content-type", "").partition(";")[0] in (MEDIA_TYPE, _PAGE_TYPE)
    if start["status"] not in _REPLACED or is_ours:
        return None
    allowed = headers.get("allow")
    return problem_response(HTTPException(start["status"], headers=None if allowed is None else {"Allow": allowed}))
