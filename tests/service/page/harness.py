"""The application behind its door, with the reading page, as a browser reaches it; without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from service.app.routes import create_app
from service.auth.guard import Guard
from service.auth.middleware import Authentication
from service.http.unrouted import Unrouted
from service.page.page import Page
from service.settings import Settings
from tests.patience import PATIENCE_S

HERE = "http://127.0.0.1:3000"
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin", "Origin": HERE}


def serve(
    scenario: Callable[[httpx.AsyncClient], Awaitable[None]],
    keys: Path = Path("/nowhere"),
    *,
    base: str = HERE,
    around: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    **settings: Any,
) -> None:
    """Run `scenario` with a browser's cookie jar against the service at `base`.

    What is not the page's says only who asked, as the routes would learn it.
    """

    async def go() -> None:
        given = Settings(model="fake", keys=keys, **{"studies": True, **settings})
        app, guard = create_app(), Guard()
        guard.start(given)
        app.state.page = page = Page(given, guard) if given.studies else None
        try:
            transport = httpx.ASGITransport(around(Authentication(_routed(Unrouted(app)), guard)))
            async with httpx.AsyncClient(transport=transport, base_url=base) as client:
                await scenario(client)
        finally:
            await guard.stop()
            if page is not None:
                page.close()

    asyncio.run(asyncio.wait_for(go(), PATIENCE_S))


def _routed(app: ASGIApp) -> ASGIApp:
    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(("/read", "/v1/sessions", "/v1/sign-ins")):
            await app(scope, receive, send)
            return
        state = scope["state"]
        known = {"caller": state["caller"], "groups": sorted(state.get("groups", ()))}
        await JSONResponse(known)(scope, receive, send)

    return routed


async def sign_in(client: httpx.AsyncClient, api_key: str, **headers: str) -> httpx.Response:
    return await client.post("/read/session", json={"api_key": api_key}, headers=SAME_ORIGIN | headers)


def changing(answer: httpx.Response) -> dict[str, str]:
    """The headers with which the page that got `answer` from `/read/session` changes something."""
    return SAME_ORIGIN | {"Consilium-CSRF": answer.json()["csrf"]}


def kind(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    found: str = answer.json()["type"]
    return found.removeprefix("urn:consilium:problem:")
