"""Authentication: ASGI middleware before every route of the service, BentoML's own included.

What is not named here needs the scope ``read``: a route that is added, or that a new BentoML brings, is never open.
"""

from __future__ import annotations

import re
import uuid
from functools import partial

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from service.auth.caller import Caller, Forbidden, Unauthenticated
from service.auth.guard import Guard
from service.http.problems import problem_response
from service.scopes import Scope

OPEN = frozenset({"/livez", "/readyz", "/healthz"})
"""Who starts and stops the service has no token, and learns here whether it lives."""
_NEEDED = (
    ("/metrics", Scope.METRICS),
    ("/v1/monitor", Scope.METRICS),
    ("/v1/diagnose", Scope.DIAGNOSE),
    ("/v1/explain", Scope.DIAGNOSE),
    ("/v1/draft", Scope.DIAGNOSE),
    ("/v1/similar", Scope.DIAGNOSE),
    ("/v1/search", Scope.DIAGNOSE),
    ("/v1/feedback", Scope.DIAGNOSE),
    ("/v1/jobs", Scope.DIAGNOSE),
    ("/v1/studies", Scope.DIAGNOSE),
    ("/v1/reads", Scope.ADMIN),
    ("/v1/operations", Scope.ADMIN),
    ("/v1/sessions", Scope.ADMIN),
    ("/v1/sign-ins", Scope.ADMIN),
    ("/v1/admin", Scope.ADMIN),
)
"""Each with whatever lies below it, whichever method is used."""
REQUEST_ID = "X-Request-Id"
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def needed_scope(path: str) -> Scope | None:
    """What a token must allow for a request to `path`; None where none is needed."""
    if path in OPEN:
        return None
    for place, scope in _NEEDED:
        if path == place or path.startswith(f"{place}/"):
            return scope
    return Scope.READ


class Authentication:
    """Lets through who may ask, and writes into the request's state who it is: ``caller``, a name, ``scopes``, what it
    may do, ``groups``, with whom it reads, and ``charge``, which counts more than one request; and ``request_id``.

    Parameters
    ----------
    app : ASGIApp
        What is guarded.
    guard : Guard
    """

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, connection: Connection, receive: Receive, send: Send) -> None:
        if connection["type"] == "lifespan":
            await self._app(connection, receive, send)
        elif connection["type"] == "http":
            await self._request(connection, receive, send)
        elif connection["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})

    async def _request(self, connection: Connection, receive: Receive, send: Send) -> None:
        headers = Headers(scope=connection)
        request_id = _request_id(headers)

        in_browser = False

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = MutableHeaders(scope=message)
                sent[REQUEST_ID] = request_id
                if in_browser:
                    sent.setdefault("Cache-Control", "no-store")
                    sent.setdefault("Cross-Origin-Resource-Policy", "same-origin")
                    sent.setdefault("X-Content-Type-Options", "nosniff")
            await send(message)

        state = connection.setdefault("state", {})
        state["request_id"] = request_id
        try:
            caller, in_browser = await self._admitted(connection["path"], connection["method"], headers)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong here, nobody passes
            await problem_response(error)(connection, receive, answer)
            return
        state["caller"] = None if caller is None else caller.name
        if caller is not None:
            state["scopes"] = caller.scopes
            state["groups"] = caller.groups
            state["charge"] = partial(self._guard.charge, caller)
        await self._app(connection, receive, answer)

    async def _admitted(self, path: str, method: str, headers: Headers) -> tuple[Caller | None, bool]:
        """Who asks, and whether a browser may have been let in without a token, so that it must not keep the answer."""
        needed = needed_scope(path)
        if needed is None:
            return None, False
        self._guard.refuse_foreign(path, method, headers)
        if self._guard.serves(path):
            return None, False
        token = _token(headers)
        cookie = self._guard.cookie(path, headers) if token is None else None
        if cookie is None:
            caller = await self._guard.caller(token)
        else:
            caller = await self._guard.visitor(cookie, method, headers)
        if needed not in caller.scopes:
            raise Forbidden(needed, caller.scopes)
        return caller, cookie is not None or self._guard.is_ambient(caller)


def _token(headers: Headers) -> str | None:
    given = headers.getlist("authorization")
    if not given:
        return None
    scheme, _, token = given[0].strip().partition(" ")
    if len(given) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated(given=True)
    return token.strip()


def _request_id(headers: Headers) -> str:
    """The caller's own name of this request where it can stand in a log, else a new one."""
    given = headers.get(REQUEST_ID, "")
    return given if _SAFE_ID.fullmatch(given) else str(uuid.uuid4())
