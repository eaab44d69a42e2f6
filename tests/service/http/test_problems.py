from __future__ import annotations

import json
import logging
from http import HTTPStatus

import pytest
from starlette.exceptions import HTTPException

from consilium.domain.errors import (
    DecodeFailed,
    InputError,
    MalformedRequest,
    TooLarge,
    UnreadableImage,
    UnsupportedMedia,
)
from service.http.problems import MEDIA_TYPE, Overdue, Unavailable, problem_response


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (MalformedRequest("body", "x", "must be JSON"), 400, "malformed-request"),
        (TooLarge("images[0]", 5, "must be small"), 413, "too-large"),
        (UnsupportedMedia("images[0]", "PDF", "must be an image"), 415, "unsupported-media"),
        (InputError("notes[0]", "x", "must be"), 422, "input-error"),
        (UnreadableImage("images[0]", "x", "must be whole"), 422, "unreadable-image"),
        (DecodeFailed("images[0]", "x", "must end"), 422, "decode-failed"),
    ],
)
def test_an_input_error_keeps_field_value_and_rule(error: InputError, status: int, kind: str) -> None:
    answer = problem_response(error)
    body = json.loads(answer.body)
    assert answer.status_code == body["status"] == status
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert body["type"] == f"urn:consilium:problem:{kind}"
    assert (body["field"], body["value"], body["rule"]) == (error.field, repr(error.value), error.rule)
    assert body["detail"] == str(error)


def test_a_full_queue_gives_503_with_retry_after() -> None:
    answer = problem_response(Unavailable("full", retry_after_s=3))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")


@pytest.mark.parametrize("status", [HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT])
def test_a_late_request_and_a_late_answer_differ(status: HTTPStatus) -> None:
    assert problem_response(Overdue("late", status)).status_code == status


def test_routing_errors_keep_their_headers() -> None:
    answer = problem_response(HTTPException(405, headers={"Allow": "POST"}))
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert json.loads(answer.body)["type"] == "urn:consilium:problem:method-not-allowed"


def test_no_value_of_the_input_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        problem_response(InputError("notes[0].text", "Jane Roe", "must be shorter"))
        try:
            raise ValueError("cannot parse Jane Roe")
        except ValueError as error:
            answer = problem_response(error)
    assert answer.status_code == 500
    assert b"Jane" not in answer.body
    assert "Jane" not in caplog.text
    assert "notes[0].text must be shorter" in caplog.text
    assert "ValueError at " in caplog.text


def test_lone_surrogates_can_be_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    answer = json.loads(problem_response(InputError("form field", "\ud800", "is \udfff unknown")).body)
    assert answer["rule"] == "is \\udfff unknown"
    assert caplog.text.encode().count(b"\\udfff") == 1
