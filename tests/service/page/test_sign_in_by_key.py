"""Sessions begun with an API key: cookies, what they open, how they end, and what other sites' pages cannot do."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from service.auth.api_keys import create_key, revoke_key
from service.page import session_store
from service.scopes import Scope
from tests.service.page.harness import SAME_ORIGIN, changing, kind, serve, sign_in

FEEDBACK = {"result_id": "7c0b3ad0-4f0e-4a53-9d0c-3a1de6e0f9b1", "findings": {"pneumonia": "present"}}
HOSPITAL = "https://consilium.example.org/radiology"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def token(keys: Path) -> str:
    return create_key(keys, "Dr House", [Scope.READ, Scope.DIAGNOSE], ["chest"])[1]


def test_an_api_key_becomes_a_session_and_signing_out_ends_it(keys: Path, token: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        before = (await client.get("/read/session")).json()
        assert (before["signed_in"], before["methods"], before["csrf"]) == (False, ["api_key"], None)
        assert (await client.get("/v1/model")).status_code == 401

        answer = await sign_in(client, token)

        assert answer.status_code == 200, answer.text
        reader = answer.json()
        assert (reader["signed_in"], reader["name"], reader["method"]) == (True, "Dr House", "api_key")
        assert (reader["scopes"], reader["groups"]) == (["diagnose", "read"], ["chest"])
        assert (await client.get("/read/session")).json() == reader
        model = await client.get("/v1/model")
        assert (model.status_code, model.headers["cache-control"]) == (200, "no-store")
        assert model.json() == {"caller": reader["caller"], "groups": ["chest"]}
        assert token.rpartition("_")[2] not in answer.text + str(answer.headers)

        cookie = client.cookies["consilium"]
        assert (await client.delete("/read/session", headers=changing(answer))).status_code == 204
        assert "consilium" not in client.cookies
        client.cookies.set("consilium", cookie)  # as whoever has stolen it before would
        assert kind(await client.get("/v1/model")) == "unauthorized"
        assert (await client.get("/read/session")).json()["signed_in"] is False

    serve(scenario, keys)


def test_the_cookie_is_beyond_scripts_other_sites_and_other_hosts(keys: Path, token: str) -> None:
    async def over_http(client: httpx.AsyncClient) -> None:
        (cookie,) = (await sign_in(client, token)).headers.get_list("set-cookie")
        name, _, rest = cookie.partition("=")
        assert name == "consilium"
        assert rest.split("; ")[1:] == ["HttpOnly", "Path=/", "SameSite=strict"]

    async def over_https(client: httpx.AsyncClient) -> None:
        origin = {"Origin": "https://consilium.example.org"}
        answer = await client.post("/read/session", json={"api_key": token}, headers=origin)
        (cookie,) = answer.headers.get_list("set-cookie")
        name, _, rest = cookie.partition("=")
        assert name == "__Host-consilium"
        assert rest.split("; ")[1:] == ["HttpOnly", "Path=/", "SameSite=strict", "Secure"]
        assert (await client.get("/v1/model")).status_code == 200

    serve(over_http, keys)
    serve(over_https, keys, base="https://consilium.example.org", page_url=HOSPITAL)


def test_a_wrong_key_signs_nobody_in_and_is_noted_without_it(keys: Path, token: str, embedded_audit_log: Path) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        for wrong in (token[:-1] + ("0" if token[-1] != "0" else "1"), "x", "csl_000000000000_" + "0" * 64):
            answer = await sign_in(client, wrong)
            assert (answer.status_code, kind(answer)) == (401, "unauthorized")
            assert "set-cookie" not in answer.headers
            assert wrong not in answer.text
        assert (await sign_in(client, "")).status_code == 422

    serve(scenario, keys)
    with closing(sqlite3.connect(embedded_audit_log / "audit-log.db")) as log:
        events = log.execute("SELECT event, method, caller FROM sign_ins").fetchall()
    assert events == [("refused", "api_key", None)] * 3


def test_a_cookie_that_was_there_before_is_never_taken_over(keys: Path, token: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        first = await sign_in(client, token)
        planted = client.cookies["consilium"]
        second = await sign_in(client, token)
        fresh = client.cookies["consilium"]
        assert fresh != planted
        assert first.json()["csrf"] != second.json()["csrf"]
        client.cookies.set("consilium", planted, domain="127.0.0.1", path="/")
        assert (await client.get("/v1/model", headers={"Cookie": f"consilium={planted}"})).status_code == 401

    serve(scenario, keys)


@pytest.mark.parametrize("value", ["", "x", "AAAA", "%00", "é", "a" * 5000, "Zm9vOmJhcg"])
def test_a_cookie_that_is_not_ours_opens_nothing(keys: Path, token: str, value: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        cookie = {"Cookie": f"consilium={value}".encode()}
        assert (await client.get("/v1/model", headers=cookie)).status_code == 401
        assert (await client.get("/read/session", headers=cookie)).json()["signed_in"] is False

    assert token
    serve(scenario, keys)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({}, 200),
        ({"Consilium-CSRF": None}, 403),
        ({"Consilium-CSRF": "0" * 64}, 403),
        ({"Consilium-CSRF": ""}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:3001"}, 403),
        ({"Sec-Fetch-Site": None, "Origin": None}, 403),
        ({"Sec-Fetch-Site": None}, 200),
        ({"Origin": None}, 200),
    ],
)
def test_only_the_page_itself_changes_something_with_the_cookie(
    keys: Path, token: str, changed: dict[str, str | None], status: int
) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        given = changing(await sign_in(client, token)) | changed
        headers = {name: value for name, value in given.items() if value is not None}
        answer = await client.post("/v1/feedback", json=FEEDBACK, headers=headers)
        assert answer.status_code == status, answer.text
        assert status == 200 or kind(answer) == "cross-site-request"

    serve(scenario, keys)


def test_one_session_s_csrf_value_is_no_other_s(keys: Path, token: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        foreign = changing(await sign_in(client, token))
        client.cookies.clear()
        await sign_in(client, token)
        assert kind(await client.post("/v1/feedback", json=FEEDBACK, headers=foreign)) == "cross-site-request"
        assert kind(await client.delete("/read/session", headers=foreign)) == "cross-site-request"
        assert (await client.get("/v1/model")).status_code == 200

    serve(scenario, keys)


def test_a_token_needs_neither_origin_nor_csrf_value_even_beside_a_cookie(keys: Path, token: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await sign_in(client, token)
        bearer = {"Authorization": f"Bearer {token}", "Host": "service.internal"}
        assert (await client.post("/v1/feedback", json=FEEDBACK, headers=bearer)).status_code == 200
        wrong = {"Authorization": "Bearer x"}
        assert (await client.get("/v1/model", headers=wrong)).status_code == 401

    serve(scenario, keys)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_s_page_cannot_sign_its_visitor_in_or_embed_answers(keys: Path, token: str, site: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        assert kind(await sign_in(client, token, **{"Sec-Fetch-Site": site})) == "cross-site-request"
        assert kind(await client.post("/read/session", json={"api_key": token})) == "cross-site-request"
        await sign_in(client, token)
        embedded = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
        assert kind(await client.get("/v1/model", headers=embedded)) == "cross-site-request"
        assert kind(await client.get("/read/session", headers=embedded)) == "cross-site-request"
        linked = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
        assert (await client.get("/v1/model/card", headers=linked)).status_code == 200

    serve(scenario, keys)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "127.0.0.1@evil.example", "[::1"])
def test_a_name_that_was_pointed_here_opens_neither_page_nor_session(keys: Path, token: str, host: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.get("/read/session", headers={"Host": host})
        assert (answer.status_code, kind(answer)) == (421, "misdirected-request")
        await sign_in(client, token)
        cookie = {"Host": host, "Cookie": f"consilium={client.cookies['consilium']}"}
        assert (await client.get("/v1/model", headers=cookie)).status_code == 421

    serve(scenario, keys)


@pytest.mark.parametrize("host", ["127.0.0.1:3000", "localhost", "[::1]:80", "LocalHost:3000", "pacs.example.org"])
def test_the_service_s_own_names_are_taken(keys: Path, token: str, host: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        assert (await client.get("/read/session", headers={"Host": host})).status_code == 200

    assert token
    serve(scenario, keys, hosts="pacs.example.org, other.example.org")


def test_where_nobody_is_authenticated_host_and_origin_are_checked_on_every_route() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        reader = (await client.get("/read/session")).json()
        assert (reader["signed_in"], reader["method"], reader["methods"]) == (True, "anonymous", [])
        assert reader["name"] is None
        assert (await client.get("/v1/model", headers={"Host": "evil.example"})).status_code == 421
        assert (await client.get("/livez", headers={"Host": "10.0.0.7"})).status_code == 200
        foreign = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
        assert kind(await client.post("/v1/feedback", json=FEEDBACK, headers=foreign)) == "cross-site-request"
        assert (await client.post("/v1/feedback", json=FEEDBACK, headers=SAME_ORIGIN)).status_code == 200
        assert (await client.post("/v1/feedback", json=FEEDBACK)).status_code == 200
        assert (await client.get("/v1/model")).headers["cache-control"] == "no-store"
        assert kind(await sign_in(client, "x")) == "conflict"

    serve(scenario, insecure=True)


@pytest.mark.parametrize(
    ("setting", "later", "lasts"),
    [
        ({"session_idle_s": 600}, timedelta(seconds=590), True),
        ({"session_idle_s": 600}, timedelta(seconds=610), False),
        ({"session_s": 3600, "session_idle_s": 7200}, timedelta(seconds=3590), True),
        ({"session_s": 3600, "session_idle_s": 7200}, timedelta(seconds=3610), False),
    ],
)
def test_a_session_ends_when_it_is_idle_and_when_its_time_is_over(
    keys: Path,
    token: str,
    setting: dict[str, float],
    later: timedelta,
    lasts: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await sign_in(client, token)
        now = datetime.now(UTC) + later
        monkeypatch.setattr(session_store, "_now", lambda: now)
        assert (await client.get("/v1/model")).status_code == (200 if lasts else 401)

    serve(scenario, keys, **setting)


def test_use_keeps_a_session_from_being_idle_but_not_from_its_end(
    keys: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await sign_in(client, token)
        begin = datetime.now(UTC)
        for minutes in range(5, 60, 5):
            monkeypatch.setattr(session_store, "_now", lambda: begin + timedelta(minutes=minutes))  # noqa: B023
            assert (await client.get("/v1/model")).status_code == 200, minutes
        monkeypatch.setattr(session_store, "_now", lambda: begin + timedelta(minutes=61))
        assert (await client.get("/v1/model")).status_code == 401

    serve(scenario, keys, session_idle_s=600, session_s=3600)


def test_what_the_page_asks_by_itself_keeps_no_session_from_being_idle(
    keys: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await sign_in(client, token)
        begin = datetime.now(UTC)
        for minutes, lasts in ((5, True), (9, True), (11, False)):
            monkeypatch.setattr(session_store, "_now", lambda: begin + timedelta(minutes=minutes))  # noqa: B023
            answer = await client.get("/v1/studies", headers={"Consilium-Background": "1"})
            assert (answer.status_code == 200, (await client.get("/read/session")).json()["signed_in"]) == (
                lasts,
                lasts,
            )

    serve(scenario, keys, session_idle_s=600, session_s=3600)


def test_a_revoked_api_key_ends_its_sessions(keys: Path, token: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        caller = (await sign_in(client, token)).json()["caller"]
        revoke_key(keys, caller.removeprefix("key:"))
        app = client._transport.app  # type: ignore[attr-defined]
        app._guard.ring.refresh()
        assert (await client.get("/v1/model")).status_code == 401

    create_key(keys, "another", [Scope.READ])
    serve(scenario, keys)


def test_attempts_to_sign_in_are_limited(keys: Path, token: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        assert [(await sign_in(client, "x")).status_code for _ in range(4)] == [401, 401, 401, 429]
        refused = await sign_in(client, token)
        assert (refused.status_code, int(refused.headers["retry-after"]) > 0) == (429, True)

    serve(scenario, keys, sign_ins_per_minute=3)


def test_the_cookie_opens_the_api_and_no_page_with_scripts_of_others(keys: Path, token: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await sign_in(client, token)
        for path in ("/docs", "/docs.json", "/", "/metrics", "/static_content/x.js"):
            assert (await client.get(path)).status_code == 401, path

    serve(scenario, keys)


def test_the_database_alone_opens_no_session_and_grants_nothing(
    keys: Path, token: str, embedded_audit_log: Path
) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await sign_in(client, token)
        with closing(sqlite3.connect(embedded_audit_log / "audit-log.db")) as log, log:
            ((digest, identity),) = log.execute("SELECT digest, identity FROM sessions").fetchall()
            assert digest not in client.cookies["consilium"]
            assert b"House" not in identity
            log.execute("UPDATE sessions SET caller = 'oidc:root', method = 'oidc'")
        assert (await client.get("/v1/model")).status_code == 401

    serve(scenario, keys)


def test_without_the_studies_there_is_no_page(keys: Path, token: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        for path in ("/read/", "/read/session", "/read/assets/x.js", "/read/oidc/start"):
            assert (await client.get(path)).status_code == 401
            assert (await client.get(path, headers={"Authorization": f"Bearer {token}"})).status_code == 404
        assert (await client.get("/v1/model", headers={"Cookie": "consilium=x"})).status_code == 401

    serve(scenario, keys, studies=False)


def test_signing_in_again_is_noted_and_so_is_signing_out(keys: Path, token: str, embedded_audit_log: Path) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await sign_in(client, token, **{"X-Request-Id": "one"})
        answer = await sign_in(client, token, **{"X-Request-Id": "two"})
        await client.delete("/read/session", headers=changing(answer) | {"X-Request-Id": "three"})

    serve(scenario, keys)
    with closing(sqlite3.connect(embedded_audit_log / "audit-log.db")) as log:
        events = log.execute("SELECT event, request_id FROM sign_ins ORDER BY time, rowid").fetchall()
    assert events == [("signed_in", "one"), ("replaced", "two"), ("signed_in", "two"), ("signed_out", "three")]
