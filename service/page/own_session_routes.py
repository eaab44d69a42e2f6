"""What readers see and end of their own sessions: `/read/session/own`. By the cookie alone, as all below `/read`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from service.audit_log.audit_routes import origin_of, uuid_of
from service.auth.caller import Unauthenticated
from service.http.problems import NotOffered
from service.page.page import Page
from service.page.session_routes import NoSuchSession
from service.page.sessions import Sessions, require_csrf

_PRIVATE = {"Cache-Control": "no-store"}
Handler = Callable[[Request], Awaitable[Response]]


async def list_own(request: Request) -> Response:
    """The sessions of whoever asks that have not ended, newest first."""
    sessions, cookie = _signed_in(request)
    found = await sessions.own(cookie, request.headers)
    return Response(found.model_dump_json(), media_type="application/json", headers=_PRIVATE)


async def end_own(request: Request) -> Response:
    """End one of them."""
    session_id = uuid_of(request, "session_id")
    if not await _ended(request, session_id):
        rule = "must be the id of a session of this reader that has not ended"
        raise NoSuchSession("session_id", str(session_id), rule)
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=_PRIVATE)


async def end_others(request: Request) -> Response:
    """End all but the one that asks."""
    await _ended(request, None)
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=_PRIVATE)


async def _ended(request: Request, session_id: UUID | None) -> int:
    sessions, cookie = _signed_in(request)
    signed_in = await sessions.signed_in(cookie, in_use=True)
    require_csrf(request.headers, signed_in.csrf)
    return await sessions.end_own(cookie, session_id, origin_of(request).request_id)


def _signed_in(request: Request) -> tuple[Sessions, str]:
    page: Page | None = request.app.state.page
    if page is None or page.sessions is None:
        raise NotOffered("Nobody signs in here: the reading page is off, or everybody is let in.")
    cookie = page.sessions.cookie(request.headers)
    if cookie is None:
        raise Unauthenticated(given=False)
    return page.sessions, cookie


ROUTES: tuple[tuple[str, Handler, tuple[str, ...]], ...] = (
    ("/read/session/own", list_own, ("GET",)),
    ("/read/session/own", end_others, ("DELETE",)),
    ("/read/session/own/{session_id}", end_own, ("DELETE",)),
)
