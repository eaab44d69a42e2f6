"""What readers see of their own sessions, and end."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from service.auth.api_keys import create_key
from service.page.browsers import browser_of
from service.scopes import Scope
from tests.service.page.harness import SAME_ORIGIN, changing, kind, serve, sign_in

OWN = "/read/session/own"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


class Browsers:
    """Several browsers of one machine, each with a cookie of its own."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def signed_in(self, token: str, agent: str = FIREFOX) -> tuple[dict[str, str], dict[str, str]]:
        """The headers with which a new session asks, and with which it changes something."""
        self._client.cookies.clear()
        answer = await sign_in(self._client, token, **{"User-Agent": agent})
        assert answer.status_code == 200, answer.text
        cookie = {"Cookie": "; ".join(f"{one.name}={one.value}" for one in self._client.cookies.jar)}
        self._client.cookies.clear()
        return cookie, cookie | changing(answer)


def test_readers_see_their_own_sessions_alone_and_which_is_this_one(keys: Path) -> None:
    token = create_key(keys, "Dr House", [Scope.READ])[1]
    other = create_key(keys, "Dr Weber", [Scope.READ])[1]

    async def scenario(client: httpx.AsyncClient) -> None:
        browsers = Browsers(client)
        first, _ = await browsers.signed_in(token)
        second, _ = await browsers.signed_in(token, CHROME)
        stranger, _ = await browsers.signed_in(other, "curl/8")
        found = (await client.get(OWN, headers=first)).json()
        assert [one["browser"] for one in found["sessions"]] == ["Chrome, Windows", "Firefox, Linux"]
        assert found["current"] == found["sessions"][1]["session_id"]
        again = (await client.get(OWN, headers=second)).json()
        assert (again["sessions"], again["current"]) == (found["sessions"], found["sessions"][0]["session_id"])
        (alone,) = (await client.get(OWN, headers=stranger)).json()["sessions"]
        assert alone["browser"] is None

    serve(scenario, keys)


def test_a_reader_ends_one_session_or_all_others_and_nobody_else_s(keys: Path) -> None:
    token = create_key(keys, "Dr House", [Scope.READ])[1]
    other = create_key(keys, "Dr Weber", [Scope.READ])[1]
    admin = {"Authorization": f"Bearer {create_key(keys, 'admin', [Scope.ADMIN])[1]}"}

    async def scenario(client: httpx.AsyncClient) -> None:
        browsers = Browsers(client)
        sessions = [await browsers.signed_in(token) for _ in range(4)]
        stranger, _ = await browsers.signed_in(other)
        (mine, change), (second, _), *rest = sessions
        ids = [one["session_id"] for one in (await client.get(OWN, headers=mine)).json()["sessions"]][::-1]
        (foreign,) = (await client.get(OWN, headers=stranger)).json()["sessions"]

        for headers in (mine, mine | SAME_ORIGIN, change | {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil"}):
            for path in (OWN, f"{OWN}/{ids[1]}"):
                assert (await client.delete(path, headers=headers)).status_code == 403
        assert kind(await client.delete(f"{OWN}/{foreign['session_id']}", headers=change)) == "no-such-session"
        assert (await client.delete(f"{OWN}/x", headers=change)).status_code == 422
        assert (await client.delete(f"{OWN}/{ids[1]}", headers=change)).status_code == 204
        assert kind(await client.delete(f"{OWN}/{ids[1]}", headers=change)) == "no-such-session"
        assert (await client.get(OWN, headers=second)).status_code == 401
        assert len((await client.get(OWN, headers=mine)).json()["sessions"]) == 3

        assert (await client.delete(OWN, headers=change)).status_code == 204
        assert [(await client.get(OWN, headers=one)).status_code for one, _ in rest] == [401, 401]
        (left,) = (await client.get(OWN, headers=mine)).json()["sessions"]
        assert left["session_id"] == ids[0]
        assert (await client.get(OWN, headers=stranger)).status_code == 200
        events = (await client.get("/v1/sign-ins", headers=admin)).json()["events"]
        ended = [one for one in events if one["event"] == "revoked"]
        assert {one["session_id"] for one in ended} == set(ids[1:])
        assert all(one["actor"] == one["caller"] for one in ended)

    serve(scenario, keys)


def test_who_has_not_signed_in_sees_and_ends_nothing(keys: Path) -> None:
    token = create_key(keys, "Dr House", [Scope.READ])[1]

    async def scenario(client: httpx.AsyncClient) -> None:
        for headers in ({}, {"Authorization": f"Bearer {token}"}, {"Cookie": "consilium=made-up"}):
            assert (await client.get(OWN, headers=headers)).status_code == 401
            assert (await client.delete(OWN, headers=SAME_ORIGIN | headers)).status_code == 401

    serve(scenario, keys)


def test_where_everybody_is_let_in_nobody_has_sessions() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.get(OWN)
        assert (answer.status_code, kind(answer)) == (404, "not-found")

    serve(scenario, insecure=True)


@pytest.mark.parametrize(
    ("agent", "named"),
    [
        (FIREFOX, "Firefox, Linux"),
        (CHROME, "Chrome, Windows"),
        (f"{CHROME} Edg/140.0", "Edge, Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1 Version/17 Safari/605.1", "Safari, macOS"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605 CriOS/126 Safari/604", "Chrome, iOS"),
        ("<script>alert(1)</script>", None),
        ("", None),
    ],
)
def test_a_browser_is_named_in_words_of_ours_alone(agent: str, named: str | None) -> None:
    assert browser_of(agent) == named
