from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from service.http.problems import Unavailable, problem_response
from service.http.unrouted import Unrouted


async def _plain(request: Request) -> Response:
    status = int(request.path_params["status"])
    return PlainTextResponse("Jane Roe", status)


async def _problem(_: Request) -> Response:
    return problem_response(ValueError("own"))


async def _busy(_: Request) -> Response:
    return problem_response(Unavailable("Full.", 7))


async def _lines(_: Request) -> Response:
    async def lines() -> AsyncIterator[bytes]:
        yield b"one\n"
        yield b"two\n"

    return StreamingResponse(lines())


async def _away(request: Request) -> Response:
    return RedirectResponse(request.query_params["to"], 303)


ROUTES = [
    Route("/away", _away),
    Route("/plain/{status}", _plain),
    Route("/problem", _problem),
    Route("/busy", _busy),
    Route("/lines", _lines),
]


def get(path: str, method: str = "GET") -> httpx.Response:
    async def go() -> httpx.Response:
        app = httpx.ASGITransport(Unrouted(Starlette(routes=ROUTES)), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=app, base_url="http://service") as client:
            return await client.request(method, path)

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("POST", "/busy", 405), ("GET", "/plain/500", 500)],
)
def test_an_error_in_plain_text_becomes_a_problem(method: str, path: str, status: int) -> None:
    answer = get(path, method)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["status"] == status
    assert "Jane Roe" not in answer.text
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert (answer.headers.get("allow") is not None) == (status == 405)


@pytest.mark.parametrize("status", [200, 204, 307, 499, 503])
def test_other_answers_pass_as_they_are(status: int) -> None:
    answer = get(f"/plain/{status}")
    assert (answer.status_code, answer.text) == (status, "Jane Roe")


def test_a_problem_stays_the_problem_that_it_is() -> None:
    assert get("/problem").json()["detail"] == "Internal error: the request itself is not at fault."
    assert (get("/busy").headers["retry-after"], get("/busy").json()["detail"]) == ("7", "Full.")


def test_a_stream_stays_a_stream() -> None:
    assert get("/lines").text == "one\ntwo\n"


@pytest.mark.parametrize("place", ["https://login.example/authorize?state=a", "http://service/elsewhere", "away/x"])
def test_a_redirect_to_another_place_stays_as_it_is(place: str) -> None:
    assert get(f"/away?to={place}").headers["location"] == place
