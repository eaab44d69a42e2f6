"""Several studies in one request, and the most similar cases of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from consilium.api.client import Client, ServiceProblem, UnreadableAnswer
from consilium.api.client import retry as exchanges
from consilium.api.schemas import SIMILAR_EXAMPLE, DiagnosisAnswer, SimilarAnswer, SimilarRequest
from consilium.domain.errors import InputError
from service.app import openapi_examples as examples
from tests.consilium.api.client.test_clients import Handler, Kind, ask, both, parts, sent

PROBLEM, ANSWER, COUNT = examples.WORKLIST
STUDIES: list[dict[str, Any]] = [{"notes": [{"kind": "history", "text": "Fever."}]}, {"images": [b"%PDF"]}]


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanges, "FIRST_PAUSE_S", 0.001)


def ndjson(*lines: Any) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def answers(*lines: Any) -> Handler:
    return lambda _: httpx.Response(200, content=ndjson(*lines), headers={"X-Request-Id": "r-1"})


@both
def test_studies_go_in_one_body_and_come_back_in_their_order(kind: Kind, tmp_path: Path) -> None:
    film = tmp_path / "Jane-Roe.dcm"
    film.write_bytes(b"DICM\r\n--\x00\xff")
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answers(PROBLEM, ANSWER, COUNT)(request)

    studies = [{"images": [film, b"PNG"], "caller_reference": "order-1"}, {"images": [b"%PDF"], "notes": []}]
    first, second = ask(kind, handler, lambda client: client.diagnose_batch(studies), token="csl_1")
    assert first == DiagnosisAnswer.model_validate(examples.DIAGNOSIS)
    assert isinstance(second, ServiceProblem)
    assert (second.status, second.field, second.request_id) == (415, "images[0]", "r-1")
    (request,) = asked
    assert (request.method, request.url.path) == ("POST", "/v1/diagnose/batch")
    assert request.headers["authorization"] == "Bearer csl_1"
    *images, form = parts(request)
    names = [image.get_param("name", header="content-disposition") for image in images]
    assert [(name, sent(image)) for name, image in zip(names, images, strict=True)] == [
        ("images.0", film.read_bytes()),
        ("images.0", b"PNG"),
        ("images.1", b"%PDF"),
    ]
    assert form.get_param("name", header="content-disposition") == "requests"
    plain = {"notes": [], "observations": []}
    assert json.loads(sent(form)) == [plain | {"caller_reference": "order-1"}, plain]
    assert b"Jane" not in request.content


@both
def test_a_worklist_whose_connection_breaks_is_sent_again_under_its_key(kind: Kind) -> None:
    keys = []

    def handler(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        if len(keys) == 1:
            raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")
        return answers(ANSWER, PROBLEM, COUNT)(request)

    answer = ask(kind, handler, lambda client: client.diagnose_batch(STUDIES))
    assert [type(one) for one in answer] == [DiagnosisAnswer, ServiceProblem]
    assert len(keys) == 2
    assert keys[0] == keys[1]


@both
@pytest.mark.parametrize(
    "lines",
    [
        [],
        [COUNT],
        [ANSWER, PROBLEM],
        [ANSWER, COUNT],
        [ANSWER, ANSWER, COUNT],
        [ANSWER, PROBLEM | {"study": 2}, COUNT],
        [ANSWER, COUNT, PROBLEM],
        [ANSWER, COUNT, COUNT],
        [ANSWER, PROBLEM, COUNT | {"studies": 3}],
        [ANSWER, PROBLEM | {"answer": examples.DIAGNOSIS}, COUNT],
        [ANSWER, "Jane Roe", COUNT],
    ],
)
def test_an_answer_that_was_cut_off_or_miscounts_is_none(kind: Kind, lines: list[Any]) -> None:
    with pytest.raises(UnreadableAnswer, match="worklist") as caught:
        ask(kind, answers(*lines), lambda client: client.diagnose_batch(STUDIES))
    assert "Jane" not in str(caught.value)


@both
def test_what_breaks_a_rule_is_refused_with_its_study_before_anything_is_sent(kind: Kind) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise AssertionError("something was sent")

    wrong: list[tuple[list[Any], str]] = [
        ([], "studies: got [], must be at least one"),
        ([{}, {"notez": []}], "studies[1].request: got 'notez', is no known key; the nearest is 'notes'"),
        ([{}, {}, {"images": ["/nowhere.dcm"]}], "studies[2].images[0]: got '/nowhere.dcm', must be a readable"),
        ([{"images": "/film.dcm"}], "studies[0].images: got 'str', must be a list"),
    ]
    for studies, message in wrong:
        with pytest.raises(InputError) as caught:
            ask(kind, handler, lambda client, studies=studies: client.diagnose_batch(studies))  # type: ignore[misc]
        assert message in str(caught.value)


@both
def test_a_worklist_that_is_refused_whole_is_a_problem(kind: Kind) -> None:
    with pytest.raises(ServiceProblem, match="413"):
        ask(kind, lambda _: httpx.Response(413), lambda client: client.diagnose_batch(STUDIES))


@both
def test_similar_cases_are_asked_for_by_keyword_or_whole(kind: Kind) -> None:
    bodies = []

    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/similar"
        bodies.append(json.loads(sent(parts(request)[-1])))
        return httpx.Response(200, json=examples.SIMILAR)

    answer = ask(kind, handler, lambda client: client.similar(images=[b"x"], **SIMILAR_EXAMPLE))
    assert answer == SimilarAnswer.model_validate(examples.SIMILAR)
    ask(kind, handler, lambda client: client.similar(SimilarRequest.model_validate(SIMILAR_EXAMPLE), images=[b"x"]))
    assert bodies[0] == bodies[1]
    assert bodies[0]["count"] == 3
    with pytest.raises(InputError, match="count: got 0"):
        ask(kind, handler, lambda client: client.similar(images=[b"x"], count=0))


def test_a_model_without_cases_is_a_problem() -> None:
    with (
        Client("http://consilium.example", transport=httpx.MockTransport(lambda _: httpx.Response(404))) as client,
        pytest.raises(ServiceProblem, match="404"),
    ):
        client.similar(images=[b"x"])
