"""Behind a proxy that ends TLS and takes a prefix away: whatever the service says of places leads back to it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from service.app.lifecycle import Lifecycle
from service.app.routes import create_app
from service.http.unrouted import Unrouted
from service.settings import Settings
from tests.patience import PATIENCE_S
from tests.service.fakes import FakeModel
from tests.service.serving.test_worklist import worklist

PREFIX = "/radiology/consilium"


def proxied(scenario: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    app = create_app()
    inner = Unrouted(app)

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["path"].startswith(PREFIX), f"{scope['path']} is not the service's behind this proxy"
        path = scope["path"].removeprefix(PREFIX)
        seen = {"path": path, "raw_path": path.encode(), "scheme": "http", "server": ("10.0.0.7", 3000)}
        headers = [(name, b"10.0.0.7:3000" if name == b"host" else value) for name, value in scope["headers"]]
        await inner({**scope, **seen, "headers": headers}, receive, send)

    async def go() -> None:
        app.state.lifecycle = lifecycle = Lifecycle(Settings(model="fake"), lambda _: FakeModel())
        await lifecycle.start()
        try:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(proxy), base_url="https://hospital.test") as one:
                await scenario(one)
        finally:
            await lifecycle.stop()

    asyncio.run(asyncio.wait_for(go(), PATIENCE_S))


def test_a_job_and_the_card_are_where_the_answers_say() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        submitted = await client.post(f"{PREFIX}/v1/jobs", files=worklist("x"))
        job = await client.get(submitted.url.join(submitted.headers["Location"]))
        assert job.json()["job_id"] == submitted.json()["job_id"]
        model = await client.get(f"{PREFIX}/v1/model")
        card = await client.get(model.url.join(model.json()["card"]))
        assert card.text == FakeModel().card["card.html"]

    proxied(scenario)


@pytest.mark.parametrize("page", ["/docs", "/"])
def test_the_page_and_the_document_name_places_behind_the_prefix(page: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.get(f"{PREFIX}{page}")
        places = re.findall(r"(?:href|src)=\"([^\"]+)\"|url: '([^']+)'", answer.text)
        found = {answer.url.join(one or other).path for one, other in places}
        files = {"swagger-ui-bundle.js", "swagger-ui.css", "favicon-light-32x32.png"}
        assert found == {f"{PREFIX}/docs.json"} | {f"{PREFIX}/static_content/{file}" for file in files}
        document = await client.get(f"{PREFIX}/docs.json")
        (server,) = document.json()["servers"]
        assert str(document.url.join(server["url"])) == f"https://hospital.test{PREFIX}/"

    proxied(scenario)


@pytest.mark.parametrize("path", ["/v1/model/", "/docs/?a=b", "/v1/jobs/00000000-0000-0000-0000-000000000000/"])
def test_a_redirect_keeps_scheme_host_and_prefix(path: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.get(f"{PREFIX}{path}")
        assert answer.status_code == 307
        assert answer.next_request is not None
        right, _, query = path.partition("?")
        ends = f"?{query}" if query else ""
        assert str(answer.next_request.url) == f"https://hospital.test{PREFIX}{right.rstrip('/')}{ends}"
        assert (await client.get(answer.next_request.url)).status_code in (200, 404)
        assert (await client.get(f"{PREFIX}{right}/")).status_code == 404

    proxied(scenario)
