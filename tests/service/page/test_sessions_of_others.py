"""What an admin sees of readers' sessions, and ends."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from service.auth.api_keys import create_key
from service.scopes import Scope
from tests.service.page.harness import kind, serve, sign_in


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_an_admin_sees_sessions_and_a_revoked_one_opens_nothing(keys: Path) -> None:
    reader, token = create_key(keys, "Dr House", [Scope.READ])
    admin = {"Authorization": f"Bearer {create_key(keys, 'admin', [Scope.ADMIN])[1]}"}

    async def scenario(client: httpx.AsyncClient) -> None:
        await sign_in(client, token, **{"X-Request-Id": "one"})
        assert (await client.get("/v1/sessions")).status_code == 403
        (session,) = (await client.get("/v1/sessions", headers=admin)).json()["sessions"]
        assert (session["caller"], session["method"]) == (f"key:{reader.id}", "api_key")
        assert session["created"] < session["ends"]
        place = f"/v1/sessions/{session['session_id']}"

        assert (await client.delete(place, headers=admin | {"X-Request-Id": "two"})).status_code == 204

        assert (await client.get("/v1/model")).status_code == 401
        assert (await client.get("/v1/sessions", headers=admin)).json() == {"sessions": []}
        assert kind(await client.delete(place, headers=admin)) == "no-such-session"
        assert (await client.delete("/v1/sessions/x", headers=admin)).status_code == 422
        revoked, begun = (await client.get("/v1/sign-ins", headers=admin)).json()["events"]
        assert (begun["event"], begun["caller"], begun["request_id"]) == ("signed_in", f"key:{reader.id}", "one")
        assert (revoked["event"], revoked["session_id"]) == ("revoked", session["session_id"])
        assert revoked["actor"].startswith("key:")
        assert revoked["actor"] != revoked["caller"]
        earlier = {"before": revoked["time"], "limit": "1"}
        assert (await client.get("/v1/sign-ins", params=earlier, headers=admin)).json()["events"] == [begun]

    serve(scenario, keys)


def test_an_admin_ends_all_sessions_of_one_reader_and_no_one_else_s(keys: Path) -> None:
    token, other = (create_key(keys, name, [Scope.READ])[1] for name in ("Dr House", "Dr Weber"))
    admin = {"Authorization": f"Bearer {create_key(keys, 'admin', [Scope.ADMIN])[1]}"}

    async def scenario(client: httpx.AsyncClient) -> None:
        for key in (token, token, other):
            client.cookies.clear()
            await sign_in(client, key)
        client.cookies.clear()
        kept, one, _ = (await client.get("/v1/sessions", headers=admin)).json()["sessions"]
        place = f"/v1/sessions/{one['session_id']}"
        answer = await client.delete(f"{place}?of_caller=yes", headers=admin)
        assert (answer.status_code, answer.json()["field"]) == (422, "of_caller")
        assert (await client.delete(f"{place}?of_caller=true", headers=admin)).status_code == 204
        assert (await client.get("/v1/sessions", headers=admin)).json()["sessions"] == [kept]
        events = (await client.get("/v1/sign-ins", headers=admin)).json()["events"]
        revoked = [event for event in events if event["event"] == "revoked"]
        assert [event["caller"] for event in revoked] == [one["caller"]] * 2
        assert len({event["session_id"] for event in revoked} - {kept["session_id"]}) == 2
        assert kind(await client.delete(f"{place}?of_caller=true", headers=admin)) == "no-such-session"

    serve(scenario, keys)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=-1", "before=yesterday"])
def test_a_question_that_is_none_is_named(keys: Path, query: str) -> None:
    admin = {"Authorization": f"Bearer {create_key(keys, 'admin', [Scope.ADMIN])[1]}"}

    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.get(f"/v1/sign-ins?{query}", headers=admin)
        assert (answer.status_code, answer.json()["field"]) == (422, query.partition("=")[0])

    serve(scenario, keys)


def test_where_everybody_is_let_in_there_are_no_sessions() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        for path in ("/v1/sessions", "/v1/sign-ins"):
            answer = await client.get(path)
            assert (answer.status_code, kind(answer)) == (404, "not-found")

    serve(scenario, insecure=True)
