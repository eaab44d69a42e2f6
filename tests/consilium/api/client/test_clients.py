from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from consilium.api.client import AsyncClient, Client, ServiceProblem, ServiceUnreachable, UnreadableAnswer
from consilium.api.client import retry as exchanges
from consilium.api.schemas import (
    DIAGNOSE_EXAMPLE,
    EXPLAIN_EXAMPLE,
    DiagnoseRequest,
    DiagnosisAnswer,
    ExplainRequest,
    ExplanationAnswer,
    ModelInformation,
)
from consilium.domain.errors import InputError
from consilium.modalities.text.records import NoteRecord
from service.app.openapi import document
from service.app.routes import create_app

URL = "https://consilium.example"
Kind = type[Client] | type[AsyncClient]
Handler = Callable[[httpx.Request], httpx.Response]

both = pytest.mark.parametrize("kind", [Client, AsyncClient])


def ask(kind: Kind, handler: Handler, what: Callable[[Any], Any], url: str = URL, **options: Any) -> Any:
    """What `what` gives of a client of `kind` whose requests end in `handler`."""
    transport = httpx.MockTransport(handler)
    if kind is Client:
        with Client(url, transport=transport, **options) as client:
            return what(client)

    async def go() -> Any:
        async with AsyncClient(url, transport=transport, **options) as client:
            return await cast(Awaitable[Any], what(client))

    return asyncio.run(go())


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanges, "FIRST_PAUSE_S", 0.001)


@pytest.fixture(scope="module")
def examples() -> dict[str, bytes]:
    """The example of every answer, as the service describes it."""
    paths = json.loads(document(create_app()))["paths"]
    return {
        path: json.dumps(media["example"]).encode()
        for path, methods in paths.items()
        for operation in methods.values()
        for media in [operation["responses"].get("200", {}).get("content", {}).get("application/json", {})]
        if "example" in media
    }


def parts(request: httpx.Request) -> list[Message]:
    whole = message_from_bytes(f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode() + request.content)
    return cast("list[Message]", whole.get_payload())


def sent(part: Message) -> bytes:
    return cast(bytes, part.get_payload(decode=True))


@both
def test_a_diagnosis_is_asked_for_with_images_records_and_a_token(
    kind: Kind, examples: dict[str, bytes], tmp_path: Path
) -> None:
    film = tmp_path / "Jane-Roe.dcm"
    film.write_bytes(b"DICM\r\n--\x00\xff")
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=examples["/v1/diagnose"])

    eight = datetime(2024, 3, 5, 8, tzinfo=UTC)
    records: dict[str, Any] = {
        "notes": [NoteRecord(kind="history", text="Fever, Grüße"), {"kind": "indication", "text": "cough"}],
        "observations": [{"code": "1988-5", "value": 12.5, "unit": "mg/L", "time": eight}],
        "patient": {"age": 71},
        "caller_reference": "order-17",
    }
    answer = ask(
        kind, handler, lambda client: client.diagnose(images=[film, str(film), b"PNG"], **records), token="csl_1_2"
    )
    assert answer == DiagnosisAnswer.model_validate_json(examples["/v1/diagnose"])
    (request,) = asked
    assert (request.method, str(request.url)) == ("POST", f"{URL}/v1/diagnose")
    assert request.headers["authorization"] == "Bearer csl_1_2"
    *images, form = parts(request)
    assert [sent(image) for image in images] == [film.read_bytes(), film.read_bytes(), b"PNG"]
    assert {image.get_param("name", header="content-disposition") for image in images} == {"images"}
    assert b"Jane" not in request.content
    assert json.loads(sent(form)) == {
        "notes": [{"kind": "history", "text": "Fever, Grüße"}, {"kind": "indication", "text": "cough"}],
        "observations": [{"code": "1988-5", "value": 12.5, "unit": "mg/L", "time": "2024-03-05T08:00:00Z"}],
        "patient": {"age": 71.0},
        "caller_reference": "order-17",
    }


@both
def test_a_whole_request_and_keywords_say_the_same(kind: Kind, examples: dict[str, bytes]) -> None:
    bodies = []

    def handler(request: httpx.Request) -> httpx.Response:
        (form,) = parts(request)
        bodies.append(json.loads(sent(form)))
        return httpx.Response(200, content=examples[request.url.path])

    given = DiagnoseRequest.model_validate(DIAGNOSE_EXAMPLE)
    ask(kind, handler, lambda client: client.diagnose(given, images=[]))
    ask(kind, handler, lambda client: client.diagnose(request=given))
    ask(kind, handler, lambda client: client.diagnose(**DIAGNOSE_EXAMPLE))
    assert bodies[0] == bodies[1] == bodies[2]
    explained = ask(kind, handler, lambda client: client.explain(**EXPLAIN_EXAMPLE))
    assert explained == ExplanationAnswer.model_validate_json(examples["/v1/explain"])
    ask(kind, handler, lambda client: client.explain(request=ExplainRequest.model_validate(EXPLAIN_EXAMPLE)))
    assert bodies[3] == bodies[4]
    assert bodies[3]["findings"] == ["pneumonia"]


@both
def test_what_breaks_a_rule_is_refused_before_anything_is_sent(kind: Kind) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise AssertionError("something was sent")

    wrong: list[tuple[Callable[[Any], Any], str]] = [
        (lambda client: client.diagnose(notez=[]), "request: got 'notez', is no known key; the nearest is 'notes'"),
        (lambda client: client.diagnose(patient={"age": ["67"]}), "patient.age: got ['67']"),
        (lambda client: client.explain(level="deep"), "level: got 'deep'"),
        (lambda client: client.diagnose(DiagnoseRequest(), images=[], notes=[]), "given whole or by keyword, not both"),
        (
            lambda client: client.diagnose(images=["/nowhere.dcm"]),
            "images[0]: got '/nowhere.dcm', must be a readable",
        ),
        (lambda client: client.diagnose(images=[b"", 7]), "images[1]: got 'int', must be a path or the bytes"),
        (lambda client: client.diagnose(images="/film.dcm"), "images: got 'str', must be a list"),
        (lambda client: client.diagnose(images=b"DICM"), "images: got 'bytes', must be a list"),
        (lambda client: client.result("17"), "result_id: got '17', must be a UUID"),
    ]
    for what, message in wrong:
        with pytest.raises(InputError) as caught:
            ask(kind, handler, what)
        assert message in str(caught.value)


@both
def test_every_attempt_of_one_request_carries_one_key_and_the_next_request_another(
    kind: Kind, examples: dict[str, bytes]
) -> None:
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if len(asked) % 3 == 1:
            raise httpx.ReadError("reset", request=request)
        if len(asked) % 3 == 2:
            return httpx.Response(503)
        return httpx.Response(200, content=examples["/v1/diagnose"])

    tokens = iter("abcdef")
    for _ in range(2):
        ask(kind, handler, lambda client: client.diagnose(images=[b"x"]), token=lambda: next(tokens))
    keys = [request.headers["idempotency-key"] for request in asked]
    assert keys[0] == keys[1] == keys[2] != keys[3] == keys[4] == keys[5]
    assert [request.headers["authorization"] for request in asked] == [f"Bearer {token}" for token in "abcdef"]
    assert len({len(request.content) for request in asked}) == 1
    for request in asked:
        image, form = parts(request)
        assert (sent(image), json.loads(sent(form))) == (b"x", {"notes": [], "observations": []})


@both
def test_the_model_its_card_and_readiness(kind: Kind, examples: dict[str, bytes]) -> None:
    cards = iter([httpx.Response(200, text="<!doctype html>"), httpx.Response(404), httpx.Response(403)])

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/model/card":
            return next(cards)
        return httpx.Response(200, content=examples.get(request.url.path, b"\n"))

    answer = ask(kind, handler, lambda client: client.model())
    assert answer == ModelInformation.model_validate_json(examples["/v1/model"])
    assert ask(kind, handler, lambda client: client.card()) == "<!doctype html>"
    assert ask(kind, handler, lambda client: client.card()) is None
    with pytest.raises(ServiceProblem, match="403"):
        ask(kind, handler, lambda client: client.card())
    assert ask(kind, handler, lambda client: client.ready()) is True


@both
def test_a_service_that_is_not_ready_or_not_there_is_asked_once(kind: Kind) -> None:
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if len(asked) == 1:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(503)

    assert [ask(kind, handler, lambda client: client.ready()) for _ in range(2)] == [False, False]
    assert asked == ["/readyz", "/readyz"]


@both
def test_failures_are_classified_by_kind(kind: Kind) -> None:
    def gone(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(ServiceUnreachable, match="ConnectError: refused"):
        ask(kind, gone, lambda client: client.model(), retries=1)
    with pytest.raises(UnreadableAnswer, match="ModelInformation: model"):
        ask(kind, lambda _: httpx.Response(200, json={}), lambda client: client.model())
    with pytest.raises(ServiceProblem) as caught:
        ask(kind, lambda _: httpx.Response(429, headers={"Retry-After": "90"}), lambda client: client.model())
    assert (caught.value.status, caught.value.retry_after_s) == (429, 90.0)


@both
def test_a_redirection_is_not_followed_with_the_token(kind: Kind) -> None:
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(307, headers={"Location": "https://elsewhere.example/v1/model"})

    with pytest.raises(ServiceProblem, match="307"):
        ask(kind, handler, lambda client: client.model(), token="t")
    assert asked == ["consilium.example"]


@both
def test_a_proxy_s_path_stays_before_ours(kind: Kind, examples: dict[str, bytes]) -> None:
    asked = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, content=examples["/v1/model"])

    for url in (f"{URL}/ai", f"{URL}/ai/"):
        ask(kind, handler, lambda client: client.model(), url=url)
    assert asked == [f"{URL}/ai/v1/model"] * 2


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    "url",
    ["", "consilium.example", "ftp://h", "https://", "https://h?x=1", "https://h#x", "https://a:b@h", "https://h:port"],
)
def test_what_is_no_address_is_refused(kind: Kind, url: str) -> None:
    with pytest.raises(InputError, match="url: got") as caught:
        kind(url)
    assert "b@" not in str(caught.value)


def test_retries_are_not_negative() -> None:
    with pytest.raises(InputError, match="retries"):
        Client(URL, retries=-1)


def test_importing_the_client_brings_nothing_heavy() -> None:
    heavy = ("torch", "monai", "transformers", "mlflow", "bentoml", "pandas", "scipy", "sklearn", "starlette")
    code = f"import sys, consilium.api.client; print([name for name in {heavy} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
