"""Sessions begun at an OpenID Connect issuer: authorization code with PKCE, and every answer that must not be taken."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from service.auth.api_keys import create_key
from service.page import code_flow
from service.scopes import Scope as Right
from tests.service.auth.issuer import AUDIENCE, CLIENT, Issuer, ec_key, rsa_key
from tests.service.page.harness import HERE, SAME_ORIGIN, changing, serve

PAGE = "https://consilium.example.org/radiology"
STUDY = "studies/7c0b3ad0-4f0e-4a53-9d0c-3a1de6e0f9b1"


@pytest.fixture(scope="module")
def signing() -> dict[str, Any]:
    return {"first": rsa_key(), "curve": ec_key()}


@pytest.fixture
def issuer(signing: dict[str, Any]) -> Iterator[Issuer]:
    with Issuer(**signing) as issuer:
        yield issuer


def settings(issuer: Issuer, **more: Any) -> dict[str, Any]:
    client = {"oidc_client_id": CLIENT, "page_url": HERE, "oidc_groups_claim": "groups"}
    return {"oidc_issuer": issuer.url, "oidc_audience": AUDIENCE, **client, **more}


async def to_the_issuer(client: httpx.AsyncClient, place: str = "") -> str:
    """Where the issuer sends the browser back to, which has been there."""
    started = await client.get("/read/oidc/start", params={"next": place})
    assert started.status_code == 303, started.text
    async with httpx.AsyncClient() as browser:
        return (await browser.get(started.headers["location"])).headers["location"]


async def back(client: httpx.AsyncClient, place: str, **headers: str) -> httpx.Response:
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    answer = await client.get(place, headers=foreign | headers)
    assert answer.status_code == 303, answer.text
    return answer


def reason(answer: httpx.Response) -> str | None:
    """Why nobody has signed in; None where somebody has."""
    place = urlsplit(answer.headers["location"])
    assert place.netloc == ""
    return parse_qs(place.query)["problem"][0] if place.path == "../login" else None


def test_who_signs_in_at_the_issuer_reads_here_and_no_token_reaches_the_browser(issuer: Issuer) -> None:
    issuer.person |= {"groups": ["chest", "night shift"]}

    async def scenario(client: httpx.AsyncClient) -> None:
        assert (await client.get("/read/session")).json()["methods"] == ["oidc", "api_key"]
        place = await to_the_issuer(client, STUDY)
        asked = issuer.asked
        assert (asked["response_type"], asked["client_id"]) == ("code", CLIENT)
        assert asked["redirect_uri"] == f"{HERE}/read/oidc/callback"
        assert (asked["code_challenge_method"], asked["scope"]) == ("S256", "openid profile")
        answer = await back(client, place)
        assert answer.headers["location"] == f"../{STUDY}"
        assert "eyJ" not in str(answer.headers) + answer.text
        assert answer.headers["referrer-policy"] == "no-referrer"
        reader = await client.get("/read/session")
        found = reader.json()
        assert (found["name"], found["caller"], found["method"]) == ("Gregory House", "oidc:dr-house", "oidc")
        assert (found["scopes"], found["groups"]) == (["diagnose", "read"], ["chest", "night shift"])
        asking = await client.post("/v1/feedback", headers=changing(reader))
        assert asking.json() == {"caller": "oidc:dr-house", "groups": ["chest", "night shift"]}

    serve(scenario, **settings(issuer))


def test_the_verifier_and_the_state_are_fresh_each_time_and_hidden(issuer: Issuer) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        seen = set()
        for _ in range(2):
            await to_the_issuer(client)
            asked = issuer.asked
            seen |= {asked["state"], asked["nonce"], asked["code_challenge"]}
            cookie = client.cookies["consilium-sign-in"]
            held = base64.urlsafe_b64decode(cookie + "=" * (-len(cookie) % 4))
            assert asked["state"].encode() not in held
        assert len(seen) == 6

    serve(scenario, **settings(issuer))


def test_behind_a_proxy_with_a_prefix_the_callback_and_cookies_are_the_proxy_s(issuer: Issuer) -> None:
    def proxied(app: ASGIApp) -> ASGIApp:
        async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
            path = scope["path"].removeprefix("/radiology")
            assert path != scope["path"]
            headers = [(name, b"10.0.0.7:3000" if name == b"host" else value) for name, value in scope["headers"]]
            await app({**scope, "path": path, "raw_path": path.encode(), "headers": headers}, receive, send)

        return proxy

    async def scenario(client: httpx.AsyncClient) -> None:
        started = await client.get("/radiology/read/oidc/start?next=model")
        (cookie,) = started.headers.get_list("set-cookie")
        assert cookie.startswith("__Host-consilium-sign-in=")
        assert {"HttpOnly", "Path=/", "SameSite=lax", "Secure", "Max-Age=600"} <= set(cookie.split("; "))
        async with httpx.AsyncClient() as browser:
            place = (await browser.get(started.headers["location"])).headers["location"]
        assert place.startswith(f"{PAGE}/read/oidc/callback?")
        answer = await back(client, place)
        assert str(answer.url.join(answer.headers["location"])) == f"{PAGE}/read/model"
        reader = await client.get("/radiology/read/session")
        origin = {"Origin": "https://consilium.example.org", "Consilium-CSRF": reader.json()["csrf"]}
        assert (await client.post("/radiology/v1/feedback", headers=origin)).status_code == 200
        assert (await client.post("/radiology/v1/feedback", headers=origin | {"Origin": HERE})).status_code == 403

    serve(
        scenario,
        base="https://consilium.example.org",
        around=proxied,
        **settings(issuer, page_url=PAGE, hosts="10.0.0.7"),
    )


@pytest.mark.parametrize(
    "place",
    [
        "https://evil.example/",
        "//evil.example",
        "/v1/model",
        "../v1/model",
        "studies/../../x",
        "model\n",
        "javascript:x",
    ],
)
def test_nobody_is_led_elsewhere_after_signing_in(issuer: Issuer, place: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await back(client, await to_the_issuer(client, place))
        assert answer.headers["location"] == "../"

    serve(scenario, **settings(issuer))


def test_an_answer_is_taken_once_and_only_by_the_browser_that_began(issuer: Issuer) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        place = await to_the_issuer(client)
        held = {"Cookie": f"consilium-sign-in={client.cookies['consilium-sign-in']}"}
        attacker = await to_the_issuer(client)
        assert reason(await back(client, place)) == "refused"  # the state is of the first attempt
        client.cookies.clear()
        assert reason(await back(client, attacker)) == "expired"
        assert reason(await back(client, place, **held)) is None
        client.cookies.clear()
        assert reason(await back(client, place, **held)) == "refused"
        assert (await client.get("/read/session")).json()["signed_in"] is False

    serve(scenario, **settings(issuer))


@pytest.mark.parametrize(
    ("id_claims", "why"),
    [
        ({"nonce": "another"}, "refused"),
        ({"nonce": None}, "refused"),
        ({"aud": AUDIENCE}, "refused"),
        ({"aud": [CLIENT, "other"]}, "refused"),
        ({"aud": [CLIENT, "other"], "azp": "other"}, "refused"),
        ({"azp": "other"}, "refused"),
        ({"iss": "https://evil.example"}, "refused"),
        ({"exp": 1}, "refused"),
        ({"exp": None}, "refused"),
        ({"at_hash": "AAAA"}, "refused"),
        ({"sub": "somebody-else"}, "refused"),
        ({"sub": None}, "refused"),
        ({"aud": [CLIENT, "other"], "azp": CLIENT}, None),
        ({"at_hash": None}, None),
    ],
)
def test_an_id_token_must_be_of_this_sign_in(issuer: Issuer, id_claims: dict[str, Any], why: str | None) -> None:
    issuer.id_claims = id_claims

    async def scenario(client: httpx.AsyncClient) -> None:
        assert reason(await back(client, await to_the_issuer(client))) == why
        assert (await client.get("/read/session")).json()["signed_in"] is (why is None)

    serve(scenario, **settings(issuer))


@pytest.mark.parametrize(
    "answered",
    [{"id_token": None}, {"id_token": "x"}, {"id_token": 7}, {"access_token": None}, {"access_token": "opaque"}],
)
def test_an_answer_without_both_tokens_is_refused(issuer: Issuer, answered: dict[str, Any]) -> None:
    issuer.answered, issuer.id_claims = answered, {"at_hash": None}

    async def scenario(client: httpx.AsyncClient) -> None:
        assert reason(await back(client, await to_the_issuer(client))) == "refused"

    serve(scenario, **settings(issuer))


def test_an_id_token_that_somebody_else_signed_is_refused(issuer: Issuer) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        place = await to_the_issuer(client)
        nonce = issuer.asked["nonce"]
        issuer.answered = {"id_token": issuer.token(key=rsa_key(), aud=CLIENT, nonce=nonce)}
        assert reason(await back(client, place)) == "refused"

    serve(scenario, **settings(issuer))


def test_rights_may_stand_in_the_id_token_beside_an_access_token_that_says_nothing(issuer: Issuer) -> None:
    issuer.answered, issuer.id_claims = {"access_token": "opaque"}, {"at_hash": None, "scope": "read"}

    async def scenario(client: httpx.AsyncClient) -> None:
        assert reason(await back(client, await to_the_issuer(client))) is None
        assert (await client.get("/read/session")).json()["scopes"] == ["read"]

    serve(scenario, **settings(issuer, oidc_rights="id_token"))


def test_who_has_no_right_here_is_told_so(issuer: Issuer) -> None:
    issuer.person["scope"] = "openid profile"

    async def scenario(client: httpx.AsyncClient) -> None:
        assert reason(await back(client, await to_the_issuer(client))) == "no-rights"

    serve(scenario, **settings(issuer))


def test_a_confidential_client_shows_its_secret(issuer: Issuer) -> None:
    issuer.secret = "a+b:ü/%"

    async def right(client: httpx.AsyncClient) -> None:
        assert reason(await back(client, await to_the_issuer(client))) is None

    async def wrong(client: httpx.AsyncClient) -> None:
        assert reason(await back(client, await to_the_issuer(client))) == "refused"

    serve(right, **settings(issuer, oidc_client_secret=issuer.secret))
    serve(wrong, **settings(issuer, oidc_client_secret="x"))


@pytest.mark.parametrize(
    "changed",
    [{"error": "access_denied"}, {"code": "guessed"}, {"code": ""}, {"state": ""}, {"iss": "https://evil.example"}],
)
def test_an_answer_that_is_changed_on_its_way_is_refused(issuer: Issuer, changed: dict[str, str]) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        place = urlsplit(await to_the_issuer(client))
        query = {name: values[0] for name, values in parse_qs(place.query).items()} | changed
        if "error" in changed:
            query.pop("code")
        answer = await client.get(place.path, params=query)
        assert reason(answer) == "refused"

    serve(scenario, **settings(issuer))


def test_a_sign_in_that_takes_too_long_has_to_begin_again(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        place = await to_the_issuer(client)
        later = code_flow.time.time() + 601
        monkeypatch.setattr(code_flow.time, "time", lambda: later)
        assert reason(await back(client, place)) == "expired"

    serve(scenario, **settings(issuer))


def test_an_issuer_that_is_away_is_named_so(issuer: Issuer) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        issuer.down = True
        answer = await client.get("/read/oidc/start")
        assert (answer.status_code, reason(answer)) == (303, "unavailable")

    serve(scenario, **settings(issuer))


def test_the_challenge_is_of_the_verifier_that_the_issuer_gets(issuer: Issuer) -> None:
    attempt = code_flow._Attempt.begin("")
    digest = hashlib.sha256(attempt.verifier.encode()).digest()
    assert base64.urlsafe_b64decode(attempt.challenge + "=") == digest
    assert 43 <= len(attempt.verifier) <= 128  # RFC 7636, section 4.1


def test_without_a_client_id_nobody_signs_in_at_the_issuer(issuer: Issuer, tmp_path: Path) -> None:
    create_key(tmp_path / "keys.json", "a", [Right.READ])

    async def scenario(client: httpx.AsyncClient) -> None:
        assert (await client.get("/read/session")).json()["methods"] == ["api_key"]
        assert (await client.get("/read/oidc/start")).status_code == 404
        assert (await client.get("/read/oidc/callback", headers=SAME_ORIGIN)).status_code == 404

    serve(scenario, tmp_path / "keys.json", oidc_issuer=issuer.url, oidc_audience=AUDIENCE)
