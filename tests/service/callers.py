"""The application as a caller sees it whom the door has let in, without a door."""

from __future__ import annotations

from typing import cast

import httpx
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from service.scopes import Scope


def caller(
    client: httpx.AsyncClient, name: str, *scopes: Scope, charged: list[int] | None = None, groups: tuple[str, ...] = ()
) -> httpx.AsyncClient:
    """The same service as `client` asks, asked by `name`; what is charged beside each request goes to `charged`."""
    app: ASGIApp = cast(httpx.ASGITransport, client._transport).app
    taken = [] if charged is None else charged

    async def behind_the_door(connection: Connection, receive: Receive, send: Send) -> None:
        connection["state"] = {"caller": name, "scopes": frozenset(scopes), "charge": taken.append}
        connection["state"]["groups"] = frozenset(groups)
        await app(connection, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(behind_the_door), base_url="http://service")
