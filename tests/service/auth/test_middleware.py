from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from consilium.domain.errors import InputError
from service.auth import keyring
from service.auth.api_keys import KeysUnusable, create_key, revoke_key, rotate_key
from service.auth.guard import Guard, refuse_unguarded
from service.auth.middleware import Authentication, needed_scope
from service.scopes import Scope
from service.settings import Settings
from tests.patience import PATIENCE_S
from tests.service.auth.issuer import AUDIENCE, Issuer, rsa_key

Client = httpx.AsyncClient


async def _who(request: Request) -> Response:
    if "more" in request.query_params:
        request.state.charge(int(request.query_params["more"]))
    return JSONResponse({"caller": request.state.caller, "request_id": request.state.request_id})


def serve(scenario: Callable[[Client], Awaitable[None]], path: Path | None = None, **settings: Any) -> None:
    """Run `scenario` against an application behind a door that says who asked."""

    async def go() -> None:
        guard = Guard()
        app = Starlette(routes=[Route("/{path:path}", _who, methods=["GET", "POST"])])
        guard.start(Settings(model="m", keys=path or Path("/nowhere"), **settings))
        try:
            transport = httpx.ASGITransport(Authentication(app, guard))
            async with Client(transport=transport, base_url="http://127.0.0.1") as client:
                await scenario(client)
        finally:
            await guard.stop()

    asyncio.run(asyncio.wait_for(go(), PATIENCE_S))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    return body


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.mark.parametrize(
    ("where", "scope"),
    [
        ("/livez", None),
        ("/readyz", None),
        ("/healthz", None),
        ("/livez/", Scope.READ),
        ("/LIVEZ", Scope.READ),
        ("/metrics", Scope.METRICS),
        ("/metrics/", Scope.METRICS),
        ("/v1/monitor", Scope.METRICS),
        ("/v1/monitor/report", Scope.METRICS),
        ("/v1/diagnose", Scope.DIAGNOSE),
        ("/v1/diagnose/batch", Scope.DIAGNOSE),
        ("/v1/explain", Scope.DIAGNOSE),
        ("/v1/draft", Scope.DIAGNOSE),
        ("/v1/similar", Scope.DIAGNOSE),
        ("/v1/search", Scope.DIAGNOSE),
        ("/v1/jobs/4711", Scope.DIAGNOSE),
        ("/v1/studies", Scope.DIAGNOSE),
        ("/v1/studies/4711/images/1", Scope.DIAGNOSE),
        ("/v1/reads", Scope.ADMIN),
        ("/v1/operations", Scope.ADMIN),
        ("/v1/sessions/4711", Scope.ADMIN),
        ("/v1/sign-ins", Scope.ADMIN),
        ("/read/", Scope.READ),
        ("/v1/admin/purge", Scope.ADMIN),
        ("/v1/diagnosed", Scope.READ),
        ("/v1/model", Scope.READ),
        ("/v1/model/card", Scope.READ),
        ("/v1/results/abc", Scope.READ),
        ("/docs.json", Scope.READ),
        ("/docs", Scope.READ),
        ("/schema.json", Scope.READ),
        ("/static_content/x.js", Scope.READ),
        ("/", Scope.READ),
        ("", Scope.READ),
        ("/whatever/comes", Scope.READ),
    ],
)
def test_what_a_path_needs(where: str, scope: Scope | None) -> None:
    assert needed_scope(where) is scope


def test_a_good_key_comes_through_with_its_name_and_nothing_else_does(path: Path) -> None:
    key, token = create_key(path, "a", [Scope.READ])

    async def scenario(client: Client) -> None:
        assert (await client.get("/v1/model", headers=bearer(token))).json()["caller"] == f"key:{key.id}"
        assert (await client.get("/v1/model", headers={"authorization": f"bEaReR  {token} "})).status_code == 200
        nothing = await client.get("/v1/model")
        assert problem(nothing, 401)["type"] == "urn:consilium:problem:unauthorized"
        assert nothing.headers["www-authenticate"] == 'Bearer realm="consilium"'
        wrong: list[Any] = [
            bearer(token[:-2]),
            bearer("x"),
            bearer("eyJhbGciOiJub25lIn0.e30."),
            {"Authorization": f"Basic {token}"},
            {"Authorization": token},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer "},
            [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")],
        ]
        for headers in wrong:
            answer = await client.get("/v1/model", headers=headers)
            assert problem(answer, 401)["detail"] == "This token is not valid.", headers
            assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        for parameters in ({"access_token": token}, {"token": token}):
            assert (await client.get("/v1/model", params=parameters)).status_code == 401

    serve(scenario, path)


def test_a_missing_scope_is_named(path: Path) -> None:
    _, token = create_key(path, "a", [Scope.READ, Scope.METRICS])

    async def scenario(client: Client) -> None:
        refused = await client.post("/v1/diagnose", headers=bearer(token))
        assert "needs the scope diagnose; the token carries metrics, read" in problem(refused, 403)["detail"]
        assert 'error="insufficient_scope", scope="diagnose"' in refused.headers["www-authenticate"]
        assert (await client.get("/metrics", headers=bearer(token))).status_code == 200

    serve(scenario, path)


def test_no_scope_implies_another(path: Path) -> None:
    places = {"/v1/model": "read", "/v1/diagnose": "diagnose", "/metrics": "metrics", "/v1/admin/x": "admin"}
    tokens = {scope.value: create_key(path, scope.value, [scope])[1] for scope in Scope}

    async def scenario(client: Client) -> None:
        for held, token in tokens.items():
            allowed = {needed for place, needed in places.items() if await _passes(client, place, token)}
            assert allowed == {held}

    serve(scenario, path)


async def _passes(client: Client, place: str, token: str) -> bool:
    return (await client.get(place, headers=bearer(token))).status_code == 200


def test_health_needs_no_token_and_names_no_caller(path: Path) -> None:
    create_key(path, "a", [Scope.READ])

    async def scenario(client: Client) -> None:
        for place in ("/livez", "/readyz", "/healthz"):
            assert (await client.get(place)).json()["caller"] is None

    serve(scenario, path)


def test_the_request_id_is_the_caller_s_where_it_is_safe_else_a_new_one(path: Path) -> None:
    _, token = create_key(path, "a", [Scope.READ])

    async def scenario(client: Client) -> None:
        for given in ("order-17", "0b1a.x_Y", "x" * 64):
            answer = await client.get("/", headers=bearer(token) | {"X-Request-Id": given})
            assert answer.headers["x-request-id"] == answer.json()["request_id"] == given
        for given in ("", "x" * 65, "a b", "a\tb", "<script>", "ü"):
            answer = await client.get("/", headers=bearer(token) | {"X-Request-Id": given.encode()})
            assert str(uuid.UUID(answer.headers["x-request-id"])) == answer.json()["request_id"]
        refused = await client.get("/", headers={"X-Request-Id": "order-17"})
        assert (refused.status_code, refused.headers["x-request-id"]) == (401, "order-17")

    serve(scenario, path)


def test_keys_are_rotated_and_revoked_without_a_restart(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "POLL_S", 0.01)
    key, old = create_key(path, "a", [Scope.READ])

    async def scenario(client: Client) -> None:
        async def until(token: str, status: int) -> None:
            while (await client.get("/", headers=bearer(token))).status_code != status:
                await asyncio.sleep(0.01)

        _, new = await asyncio.to_thread(rotate_key, path, key.id, timedelta(hours=1))
        await until(new, 200)
        assert (await client.get("/", headers=bearer(old))).status_code == 200
        _, newest = await asyncio.to_thread(rotate_key, path, key.id, timedelta(0))
        await until(newest, 200)
        assert [(await client.get("/", headers=bearer(token))).status_code for token in (old, new)] == [401, 401]
        await asyncio.to_thread(revoke_key, path, key.id)
        await until(newest, 401)

    serve(scenario, path)


def test_a_caller_over_its_rate_limit_gets_429_with_retry_after_and_others_do_not(path: Path) -> None:
    (_, one), (_, other) = (create_key(path, name, [Scope.READ]) for name in "ab")

    async def scenario(client: Client) -> None:
        statuses = [(await client.get("/", headers=bearer(one))).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        refused = await client.get("/", headers=bearer(one))
        assert problem(refused, 429)["type"] == "urn:consilium:problem:too-many-requests"
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert (await client.get("/", headers=bearer(other))).status_code == 200
        assert (await client.get("/livez")).status_code == 200

    serve(scenario, path, requests_per_minute=2)


def test_what_costs_more_than_one_request_is_paid_for_by_its_caller(path: Path) -> None:
    (_, one), (_, other) = (create_key(path, name, [Scope.READ]) for name in "ab")

    async def scenario(client: Client) -> None:
        assert (await client.get("/", headers=bearer(one), params={"more": 120})).status_code == 200
        refused = await client.get("/", headers=bearer(one))
        problem(refused, 429)
        assert 1 <= int(refused.headers["retry-after"]) <= 62
        assert (await client.get("/", headers=bearer(other))).status_code == 200

    serve(scenario, path, requests_per_minute=60)


def test_before_the_start_and_after_the_end_nobody_comes_in(path: Path) -> None:
    _, token = create_key(path, "a", [Scope.READ])

    async def go() -> None:
        guard = Guard()
        app = Starlette(routes=[Route("/{path:path}", _who)])
        async with Client(
            transport=httpx.ASGITransport(Authentication(app, guard)), base_url="http://service"
        ) as client:
            assert (await client.get("/", headers=bearer(token))).status_code == 503
            assert (await client.get("/livez")).status_code == 200
            guard.start(Settings(model="m", keys=path))
            assert (await client.get("/", headers=bearer(token))).status_code == 200
            await guard.stop()
            problem(await client.get("/", headers=bearer(token)), 503)

    asyncio.run(go())


def test_tokens_of_an_issuer_and_keys_open_side_by_side(path: Path) -> None:
    _, token = create_key(path, "a", [Scope.READ])
    with Issuer(first=rsa_key()) as issuer:

        async def scenario(client: Client) -> None:
            answer = await client.post("/v1/diagnose", headers=bearer(issuer.token(scope="radiologists")))
            assert answer.json()["caller"] == "oidc:dr-house"
            assert (await client.get("/", headers=bearer(token))).status_code == 200
            problem(await client.get("/metrics", headers=bearer(issuer.token(scope="radiologists"))), 403)
            problem(await client.get("/", headers=bearer(issuer.token(aud="elsewhere"))), 401)

        serve(
            scenario,
            path,
            oidc_issuer=issuer.url,
            oidc_audience=AUDIENCE,
            oidc_scopes=json.dumps({"radiologists": ["read", "diagnose"]}),
        )


def test_an_issuer_that_is_down_is_503_for_its_tokens_and_keys_still_open(path: Path) -> None:
    _, token = create_key(path, "a", [Scope.READ])
    with Issuer(first=rsa_key()) as issuer:
        issuer.down = True

        async def scenario(client: Client) -> None:
            refused = await client.get("/", headers=bearer(issuer.token()))
            problem(refused, 503)
            assert refused.headers["retry-after"] == "10"
            assert (await client.get("/", headers=bearer(token))).status_code == 200

        serve(scenario, path, oidc_issuer=issuer.url, oidc_audience=AUDIENCE)


def test_an_insecure_service_asks_nobody() -> None:
    async def scenario(client: Client) -> None:
        for place in ("/", "/metrics", "/v1/diagnose"):
            assert (await client.get(place)).json()["caller"] == "anonymous"

    serve(scenario, insecure=True, requests_per_minute=1)


def test_nothing_of_a_token_is_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, token = create_key(path, "a", [Scope.READ])

    async def scenario(client: Client) -> None:
        for attempt in (token, token[:-1], token[:-1] + "é"):
            await client.get("/metrics", headers={"Authorization": f"Bearer {attempt}".encode()})

    with caplog.at_level(logging.DEBUG):
        serve(scenario, path)
    assert "403" in caplog.text
    assert "401" in caplog.text
    assert token[18:50] not in caplog.text


def test_a_websocket_is_closed_before_it_opens() -> None:
    sent: list[dict[str, Any]] = []

    async def app(*_: Any) -> None:
        raise AssertionError("it came through")

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Authentication(app, Guard())({"type": "websocket", "path": "/livez"}, receive, send))
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_without_anybody_who_may_ask_the_service_does_not_start(path: Path) -> None:
    def settings(**more: Any) -> Settings:
        return Settings(model="m", keys=path, **more)

    with pytest.raises(InputError, match=r"CONSILIUM_KEYS: got '.*keys\.json', must hold an API key"):
        refuse_unguarded(settings())
    refuse_unguarded(settings(insecure=True))
    refuse_unguarded(settings(oidc_issuer="https://login.example.org", oidc_audience="consilium"))
    key, _ = create_key(path, "a", [Scope.READ])
    refuse_unguarded(settings())
    revoke_key(path, key.id)
    with pytest.raises(InputError, match="CONSILIUM_KEYS"):
        refuse_unguarded(settings())
    path.write_text("{")
    with pytest.raises(KeysUnusable):
        refuse_unguarded(settings())
