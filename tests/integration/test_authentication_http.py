"""Who may ask, of the service as its users run it: every route of ours and of BentoML's, keys and tokens over HTTP."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from starlette.routing import BaseRoute

from consilium.api.client import Client, ServiceProblem
from service.app.launch import RunningService, command, environment, free_port
from service.auth.api_keys import create_key, revoke_key, rotate_key
from service.scopes import Scope
from tests.patience import PATIENCE_S, until
from tests.service.auth.issuer import AUDIENCE, Issuer, rsa_key

OPEN = {"/livez", "/readyz", "/healthz"}
NOTE = {"request": (None, json.dumps({"notes": [{"kind": "history", "text": "fever cough"}]}), "application/json")}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def tokens(keys: Path) -> dict[str, str]:
    """A token for each scope alone."""
    return {scope.value: create_key(keys, f"only {scope}", [scope])[1] for scope in Scope}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer(first=rsa_key()) as issuer:
        yield issuer


@pytest.fixture(scope="module")
def service(tiny_folder: Path, keys: Path, tokens: dict[str, str], issuer: Issuer) -> Iterator[RunningService]:
    settings = {
        "keys": keys,
        "model_threads": 1,
        "oidc_issuer": issuer.url,
        "oidc_audience": AUDIENCE,
        "oidc_retry_s": 0.2,
        "header_timeout_s": 3,
    }
    assert tokens
    with RunningService(tiny_folder, settings) as running:
        yield running


@pytest.fixture(scope="module")
def client(service: RunningService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=PATIENCE_S) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def paths(routes: list[BaseRoute]) -> set[str]:
    found = set()
    for route in routes:
        path = getattr(route, "path", "")
        found |= {path or "/"} | {path + inner for inner in paths(getattr(route, "routes", None) or [])}
    return found


def every_path() -> set[str]:
    """Of the application that BentoML makes of our service: its own routes, and ours mounted in it."""
    from service.app.service import Consilium

    found = paths(Consilium.to_asgi().routes)  # type: ignore[attr-defined]
    assert {"/metrics", "/schema.json", "/docs.json", "/static_content", "/v1/diagnose", *OPEN} <= found
    return found


def test_no_route_answers_without_a_token_but_health(client: httpx.Client) -> None:
    for path, method in itertools.product(sorted(every_path()), ("GET", "POST", "HEAD", "OPTIONS", "DELETE", "TRACE")):
        answer = client.request(method, path)
        if path in OPEN:
            assert answer.status_code in (200, 405), (method, path)
        else:
            assert answer.status_code == 401, (method, path, answer.status_code)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path",
    [
        "//metrics",
        "/metrics/",
        "/./metrics",
        "/%6detrics",
        "/livez/../metrics",
        "/livez/..%2fmetrics",
        "/livez%00",
        "/LIVEZ",
    ],
)
def test_no_other_way_of_writing_a_path_bypasses_authentication(
    service: RunningService, tokens: dict[str, str], path: str
) -> None:
    target = {"target": path.encode()}  # as it is written, which httpx would otherwise tidy up
    with httpx.Client(timeout=PATIENCE_S) as client:
        request = client.build_request("GET", service.url, extensions=target)
        assert client.send(request).status_code == 401
        request = client.build_request("GET", service.url, extensions=target, headers=bearer(tokens["read"]))
        answer = client.send(request)
        assert answer.status_code in (403, 404, 307), answer.status_code
        assert "consilium" not in answer.text or answer.status_code != 200


def test_each_route_requires_its_own_scope(client: httpx.Client, tokens: dict[str, str]) -> None:
    places = {"/metrics": "metrics", "/v1/model": "read", "/docs.json": "read", "/docs": "read", "/schema.json": "read"}
    for (path, needed), (held, token) in itertools.product(places.items(), tokens.items()):
        answer = client.get(path, headers=bearer(token))
        assert answer.status_code == (200 if held == needed else 403), (path, held)
        assert held == needed or f"scope {needed};" in answer.json()["detail"]
    for held, token in tokens.items():
        answer = client.post("/v1/diagnose", headers=bearer(token), files=NOTE)
        assert answer.status_code == (200 if held == "diagnose" else 403)


def test_a_token_of_the_issuer_opens_too_and_its_keys_may_change(client: httpx.Client, issuer: Issuer) -> None:
    token = issuer.token(scope="diagnose")
    answer = client.post("/v1/diagnose", headers=bearer(token) | {"X-Request-Id": "order-17"}, files=NOTE)
    assert (answer.status_code, answer.headers["x-request-id"]) == (200, "order-17")
    assert client.get("/v1/model", headers=bearer(token)).status_code == 403
    assert client.get("/v1/model", headers=bearer(issuer.token(aud="elsewhere"))).status_code == 401
    issuer.keys = {"second": rsa_key()}
    until(lambda: client.get("/v1/model", headers=bearer(issuer.token("second"))).status_code == 200)
    assert client.post("/v1/diagnose", headers=bearer(token), files=NOTE).status_code == 401


def test_a_key_is_rotated_and_revoked_while_the_service_runs(client: httpx.Client, keys: Path) -> None:
    key, old = create_key(keys, "pacs", [Scope.READ])

    def status(token: str) -> int:
        return client.get("/v1/model", headers=bearer(token)).status_code

    until(lambda: status(old) == 200)
    _, new = rotate_key(keys, key.id, timedelta(hours=1))
    until(lambda: status(new) == 200)
    assert status(old) == 200
    revoke_key(keys, key.id)
    until(lambda: status(new) == 401)
    assert status(old) == 401


def test_an_upload_that_is_refused_leaves_the_connection_to_the_next_request(
    service: RunningService, tokens: dict[str, str]
) -> None:
    upload = [("images", ("x", bytes(3_000_000)))]
    with httpx.Client(base_url=service.url, timeout=PATIENCE_S, limits=httpx.Limits(max_connections=1)) as client:
        for _ in range(5):
            assert client.post("/v1/diagnose", files=upload).status_code == 401
            assert client.post("/v1/diagnose", headers=bearer(tokens["read"]), files=upload).status_code == 403
            assert client.post("/v1/diagnose", headers=bearer(tokens["diagnose"]), files=NOTE).status_code == 200


def test_headers_that_do_not_come_to_an_end_are_cut_off(service: RunningService) -> None:
    for begun in (b"", b"POST /v1/diagnose HTTP/1.1\r\nHost: x\r\nX-Slow: "):
        with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_S) as connection:
            connection.sendall(begun)
            assert connection.recv(1) == b""


def test_the_client_sends_its_token_and_names_the_missing_scope(
    service: RunningService, tokens: dict[str, str]
) -> None:
    with Client(service.url, token=tokens["diagnose"]) as client:
        assert client.ready()
        assert client.diagnose(notes=[{"kind": "history", "text": "fever cough"}]).modalities == ("text",)
        with pytest.raises(ServiceProblem, match="needs the scope read; the token carries diagnose"):
            client.model()


def test_no_token_stands_in_the_log(service: RunningService, client: httpx.Client, tokens: dict[str, str]) -> None:
    for token in tokens.values():
        client.get("/v1/model", headers=bearer(token))
        assert token.rpartition("_")[2] not in service.log()


def test_without_a_key_the_service_refuses_to_start_in_one_line(tiny_folder: Path, tmp_path: Path) -> None:
    settings = {"keys": tmp_path / "none.json", "insecure": False}
    ended = subprocess.run(
        command(free_port()),
        check=False,
        env=environment(tiny_folder, settings),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    output = ended.stdout + ended.stderr
    assert ended.returncode != 0
    assert output.count("none.json', must hold an API key (consilium keys create NAME)") == 1
    assert "Traceback" not in output


def test_with_a_key_every_interface_may_be_bound(tiny_folder: Path, keys: Path, tokens: dict[str, str]) -> None:
    port = free_port()
    given = environment(tiny_folder, {"keys": keys, "model_threads": 1})
    with subprocess.Popen(
        command(port, host="0.0.0.0"), env=given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            until(lambda: process.poll() is not None or _answers(f"{url}/livez"))
            assert httpx.get(f"{url}/v1/model", timeout=PATIENCE_S).status_code == 401
            assert httpx.get(f"{url}/docs.json", headers=bearer(tokens["read"]), timeout=PATIENCE_S).status_code == 200
        finally:
            os.kill(process.pid, signal.SIGTERM)
            process.wait(PATIENCE_S)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=PATIENCE_S).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
