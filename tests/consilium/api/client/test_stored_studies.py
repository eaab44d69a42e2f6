"""Studies that are stored for readers, as both clients see them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import httpx
import pytest

from consilium.api.schemas import OperationsAnswer, ReadAnswer, StudyAnswer, StudyDetail, StudyList
from consilium.domain.errors import InputError, ServiceProblem
from service.app import study_examples as examples
from tests.consilium.api.client.test_clients import Kind, ask, both, parts

ID = examples.STUDY["study_id"]


def answering(
    asked: list[httpx.Request], answer: object, status: int = 200
) -> Callable[[httpx.Request], httpx.Response]:
    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(status, json=answer)

    return handler


@both
def test_a_study_is_stored_looked_at_and_deleted(kind: Kind) -> None:
    asked: list[httpx.Request] = []
    handler = answering(asked, examples.STUDY, 202)
    study = ask(kind, handler, lambda client: client.submit_study(images=[b"PNG"], findings=["pneumonia"]))
    assert study == StudyAnswer.model_validate(examples.STUDY)
    assert asked[0].url.path == "/v1/studies"
    assert "idempotency-key" in asked[0].headers
    names = [part.get_param("name", header="content-disposition") for part in parts(asked[0])]
    assert names == ["images", "request"]
    detail = ask(kind, answering(asked, examples.DETAIL), lambda client: client.study(ID))
    assert detail == StudyDetail.model_validate(examples.DETAIL)
    operations = ask(kind, answering(asked, examples.OPERATIONS), lambda client: client.operations())
    assert operations == OperationsAnswer.model_validate(examples.OPERATIONS)
    ask(kind, answering(asked, None, 204), lambda client: client.delete_study(ID))
    assert (asked[-1].method, asked[-1].url.path) == ("DELETE", f"/v1/studies/{ID}")


@both
def test_a_prior_names_the_study_that_it_is_shown_with_by_its_digest(kind: Kind) -> None:
    asked: list[httpx.Request] = []
    given = {"beside": "1.2.3", "reading_group": "chest", "idempotency_key": "prior-1"}
    ask(kind, answering(asked, examples.STUDY, 202), lambda client: client.submit_study(images=[b"PNG"], **given))
    assert dict(asked[0].url.params) == {"reading_group": "chest", "beside": hashlib.sha256(b"1.2.3").hexdigest()}
    assert asked[0].headers["idempotency-key"] == "prior-1"


@both
def test_what_is_searched_for_stands_in_no_address(kind: Kind) -> None:
    asked: list[httpx.Request] = []
    found = ask(kind, answering(asked, examples.LIST), lambda client: client.studies(search="Roe", limit=5))
    assert found == StudyList.model_validate(examples.LIST)
    assert (asked[0].url.path, asked[0].url.query) == ("/v1/studies/search", b"")
    assert json.loads(asked[0].content) == {"search": "Roe", "limit": 5}
    with pytest.raises(InputError, match="limit"):
        ask(kind, answering(asked, examples.LIST), lambda client: client.studies(limit=0))


@both
def test_a_read_is_sent_once_and_a_hidden_answer_is_a_problem(kind: Kind) -> None:
    asked: list[httpx.Request] = []
    read = ask(kind, answering(asked, examples.READ, 201), lambda client: client.read(ID, {"pneumonia": "present"}))
    assert read == ReadAnswer.model_validate(examples.READ)
    assert json.loads(asked[0].content) == {"kind": "first", "findings": {"pneumonia": "present"}}
    problem = {"type": "urn:x", "title": "Conflict", "status": 409, "detail": "hidden", "instance": "urn:y"}
    with pytest.raises(ServiceProblem, match="hidden"):
        ask(kind, answering(asked, problem, 409), lambda client: client.study_answer(ID))
    assert len(asked) == 2


@both
def test_words_are_asked_for_as_they_are_and_reads_page_by_page(kind: Kind) -> None:
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if request.url.path.endswith("/images/1"):
            return httpx.Response(200, content=b"\x01\x00")
        more = b"after" not in request.url.query
        return httpx.Response(200, content=json.dumps(examples.READ).encode() + b"\n" if more else b"")

    assert ask(kind, handler, lambda client: client.study_words(ID, 1)) == b"\x01\x00"
    assert asked[0].headers["accept-encoding"] == "identity"
    assert ask(kind, handler, lambda client: client.reads()) == [ReadAnswer.model_validate(examples.READ)]
    assert asked[-1].url.query == f"after={examples.READ['read_id']}".encode()
