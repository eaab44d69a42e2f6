"""Jobs, and answers of a service that is newer than the client."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from consilium.api.client import ServiceProblem, UnreadableAnswer
from consilium.api.client import retry as exchanges
from consilium.api.schemas import (
    DiagnosisAnswer,
    DraftAnswer,
    ExplanationAnswer,
    ExplanationLine,
    FeedbackAnswer,
    JobAnswer,
    ModelInformation,
    ResultAnswer,
    SearchAnswer,
    SimilarAnswer,
    WorklistCount,
    WorklistProblem,
)
from consilium.domain.errors import InputError
from service.app import openapi_examples as examples
from tests.consilium.api.client.test_clients import Kind, ask, both, parts, sent
from tests.consilium.api.client.test_worklists import ANSWER, COUNT, PROBLEM, answers

JOB = examples.JOB
ID = JOB["job_id"]
EXPLAINED = {"study": 0, "answer": examples.EXPLANATION}


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanges, "FIRST_PAUSE_S", 0.001)


@both
def test_studies_are_handed_over_once_whatever_breaks(kind: Kind) -> None:
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if len(asked) == 1:
            raise httpx.ReadError("reset")
        return httpx.Response(202, json=JOB)

    studies: list[Any] = [{"images": [b"PNG"], "findings": ["pneumonia"]}, {"level": "thorough"}]
    answer = ask(kind, handler, lambda client: client.submit(studies, "explain"))
    assert answer == JobAnswer.model_validate(JOB)
    assert [str(request.url.copy_with(host="h")) for request in asked] == ["https://h/v1/jobs?kind=explain"] * 2
    assert len({request.headers["idempotency-key"] for request in asked}) == 1
    image, form = parts(asked[1])
    assert image.get_param("name", header="content-disposition") == "images.0"
    assert [(one.get("findings"), one["level"]) for one in json.loads(sent(form))] == [
        (["pneumonia"], "fast"),
        (None, "thorough"),
    ]


@both
def test_a_caller_may_name_the_request(kind: Kind) -> None:
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(202, json=JOB)

    ask(kind, handler, lambda client: client.submit([{"images": [b"PNG"]}], "explain", idempotency_key="revision-1"))
    assert [request.headers["idempotency-key"] for request in asked] == ["revision-1"]


@both
def test_what_breaks_a_rule_is_refused_before_anything_is_sent(kind: Kind) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise AssertionError("something was sent")

    wrong: list[tuple[Any, str, str]] = [
        ([{"findings": ["pneumonia"]}], "diagnose", "studies[0].request: got 'findings', is no known key"),
        ([{}], "similar", "kind: got 'similar', must be one of diagnose, explain"),
        ([], "explain", "studies: got [], must be at least one"),
    ]
    for studies, what, message in wrong:
        with pytest.raises(InputError) as caught:
            ask(kind, handler, lambda client, studies=studies, what=what: client.submit(studies, what))  # type: ignore[misc]
        assert message in str(caught.value)
    for call in ("job", "job_results", "cancel", "discard"):
        with pytest.raises(InputError, match=r"job_id: got '\.\./model', must be a UUID"):
            ask(kind, handler, lambda client, call=call: getattr(client, call)("../model"))  # type: ignore[misc]


@both
@pytest.mark.parametrize(("call", "method"), [("job", "GET"), ("cancel", "DELETE")])
def test_a_job_is_looked_at_and_cancelled_by_its_id(kind: Kind, call: str, method: str) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == (method, f"/v1/jobs/{ID}")
        return httpx.Response(200, json=JOB | {"state": "cancelled"})

    for job_id in (ID, UUID(ID)):
        answer = ask(kind, handler, lambda client, job_id=job_id: getattr(client, call)(job_id))  # type: ignore[misc]
        assert (answer.job_id, answer.state) == (UUID(ID), "cancelled")


@both
def test_its_answers_are_deleted_by_its_id(kind: Kind) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("DELETE", f"/v1/jobs/{ID}/results")
        return httpx.Response(204)

    assert ask(kind, handler, lambda client: client.discard(ID)) is None
    with pytest.raises(ServiceProblem, match="404"):
        ask(kind, lambda _: httpx.Response(404), lambda client: client.discard(ID))


@both
def test_its_results_are_put_in_order_and_waited_for(kind: Kind) -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if len(asked) == 1:
            return httpx.Response(409, json=examples.WORKLIST[0]["problem"], headers={"Retry-After": "0"})
        return answers(PROBLEM, EXPLAINED, COUNT)(request)

    first, second = ask(kind, handler, lambda client: client.job_results(ID))
    assert first == ExplanationAnswer.model_validate(examples.EXPLANATION)
    assert isinstance(second, ServiceProblem)
    assert asked == [f"/v1/jobs/{ID}/results"] * 2
    diagnosed, _ = ask(kind, answers(ANSWER, PROBLEM, COUNT), lambda client: client.job_results(ID))
    assert type(diagnosed) is DiagnosisAnswer


@both
@pytest.mark.parametrize("lines", [[], [ANSWER], [ANSWER, COUNT], [ANSWER, PROBLEM], [ANSWER, ANSWER, COUNT]])
def test_results_that_were_cut_off_are_none(kind: Kind, lines: list[Any]) -> None:
    with pytest.raises(UnreadableAnswer, match="one line for each of its studies, and a count"):
        ask(kind, answers(*lines), lambda client: client.job_results(ID))


def newer(answer: BaseModel) -> Any:
    """`answer` by a service that adds a key to every object in it that has fields."""
    return _with_more(answer)


def _with_more(value: Any) -> Any:
    if isinstance(value, BaseModel):
        own = {name: _with_more(getattr(value, name)) for name in type(value).model_fields}
        return own | {"since_2031": {"more": [1]}}
    if is_dataclass(value):
        own = {field.name: _with_more(getattr(value, field.name)) for field in fields(value)}
        return own | {"since_2031": {"more": [1]}}
    if isinstance(value, dict):
        return {key: _with_more(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return [_with_more(one) for one in value]
    return to_jsonable_python(value)


ANSWERS: list[tuple[type[BaseModel], Any, Callable[[Any], Any]]] = [
    (DiagnosisAnswer, examples.DIAGNOSIS, lambda client: client.diagnose(images=[b"x"])),
    (ExplanationAnswer, examples.EXPLANATION, lambda client: client.explain(images=[b"x"])),
    (DraftAnswer, examples.DRAFT, lambda client: client.draft(images=[b"x"], language="de")),
    (SimilarAnswer, examples.SIMILAR, lambda client: client.similar(images=[b"x"])),
    (SearchAnswer, examples.SEARCH, lambda client: client.search(images=[b"x"])),
    (ResultAnswer, examples.RESULT, lambda client: client.result(ID)),
    (FeedbackAnswer, examples.FEEDBACK, lambda client: client.feedback(ID, {"pneumonia": "absent"})),
    (ModelInformation, examples.MODEL, lambda client: client.model()),
    (JobAnswer, JOB, lambda client: client.job(ID)),
]


@both
@pytest.mark.parametrize(("answer", "example", "call"), ANSWERS)
def test_what_a_newer_service_adds_is_passed_over(kind: Kind, answer: Any, example: Any, call: Any) -> None:
    expected = answer.model_validate(example)
    more = newer(expected)
    with pytest.raises(ValidationError, match="since_2031"):
        answer.model_validate(more)
    assert ask(kind, lambda _: httpx.Response(200, json=more), call) == expected


@both
def test_lines_and_problems_of_a_newer_service_are_read_too(kind: Kind) -> None:
    lines = [
        newer(WorklistProblem.model_validate(PROBLEM)),
        newer(ExplanationLine.model_validate(EXPLAINED)),
        newer(WorklistCount.model_validate(COUNT)),
    ]
    first, second = ask(kind, answers(*lines), lambda client: client.job_results(ID))
    assert first == ExplanationAnswer.model_validate(examples.EXPLANATION)
    assert second.detail == PROBLEM["problem"]["detail"]
    with pytest.raises(ServiceProblem, match="415"):
        ask(kind, lambda _: httpx.Response(415, json=lines[0]["problem"]), lambda client: client.job(ID))


@both
def test_feedback_says_what_was_confirmed_of_which_answer(kind: Kind) -> None:
    asked: list[httpx.Request] = []

    def service(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=examples.FEEDBACK)

    ask(kind, service, lambda client: client.feedback(ID, {"pneumonia": "absent"}))
    assert json.loads(asked[0].content) == {"result_id": str(ID), "findings": {"pneumonia": "absent"}}
    with pytest.raises(InputError, match="maybe"):
        ask(kind, service, lambda client: client.feedback(ID, {"pneumonia": "maybe"}))
    assert len(asked) == 1
