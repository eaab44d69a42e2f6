from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from consilium.api.client.retry import Attempt, Exchange, Outcome, Patience, Pause, exchange, reader
from consilium.api.schemas import ProblemAnswer
from consilium.domain.errors import ServiceProblem, ServiceUnreachable, UnreadableAnswer

GET = Attempt("GET", "/v1/model")
ONCE = Attempt("POST", "/v1/feedback", repeatable=False)


def problem(status: int, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    answer = {"type": "t", "title": "Title", "status": status, "detail": "Detail.", "instance": "urn:uuid:1"} | more
    return httpx.Response(status, json=answer, headers=headers)


def drive(calls: Exchange[Any], *outcomes: Outcome) -> tuple[list[float], Any]:
    """The pauses asked for, and what came in the end; every outcome must have been asked for."""
    pauses = []
    left = list(outcomes)
    step = next(calls)
    try:
        while True:
            if isinstance(step, Pause):
                pauses.append(step.seconds)
                step = calls.send(None)
            else:
                step = calls.send(left.pop(0))
    except StopIteration as end:
        assert left == []
        return pauses, end.value
    except (ServiceProblem, ServiceUnreachable, UnreadableAnswer) as error:
        assert left == []
        return pauses, error


def ask(*outcomes: Outcome, attempt: Attempt = GET, jitter: float = 1.0, **patience: Any) -> tuple[list[float], Any]:
    return drive(exchange(attempt, lambda answer: answer.text, Patience(jitter=lambda: jitter, **patience)), *outcomes)


OK = httpx.Response(200, text="yes")


def test_an_answer_at_once_needs_no_pause() -> None:
    assert ask(OK) == ([], "yes")


@pytest.mark.parametrize(
    "outcome",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("late"),
        httpx.ReadError("reset"),
        httpx.WriteError("reset"),
        httpx.RemoteProtocolError("gone"),
        problem(429),
        problem(503),
        problem(504),
        httpx.Response(503, text="<html>"),
    ],
    ids=str,
)
def test_what_may_pass_is_tried_again(outcome: Outcome) -> None:
    pauses, answer = ask(outcome, OK)
    assert (pauses, answer) == ([0.5], "yes")


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 409, 413, 415, 422, 500, 501, 502])
def test_what_would_fail_again_is_raised_at_once(status: int) -> None:
    pauses, error = ask(problem(status))
    assert pauses == []
    assert isinstance(error, ServiceProblem)
    assert error.status == status


@pytest.mark.parametrize(
    "outcome", [httpx.ReadTimeout("late"), httpx.PoolTimeout("late"), httpx.UnsupportedProtocol("x")]
)
def test_an_attempt_that_had_its_time_is_not_made_again(outcome: httpx.TransportError) -> None:
    pauses, error = ask(outcome)
    assert pauses == []
    assert isinstance(error, ServiceUnreachable)
    assert type(outcome).__name__ in str(error)


def test_an_earlier_attempt_that_is_still_answered_is_waited_for() -> None:
    assert ask(problem(409, {"Retry-After": "1"}), OK) == ([1.5], "yes")


def test_what_may_not_be_done_twice_is_sent_again_only_where_it_was_not_taken() -> None:
    for untouched in (httpx.ConnectError("x"), httpx.ConnectTimeout("x"), problem(429), problem(503)):
        assert ask(untouched, OK, attempt=ONCE)[1] == "yes"
    in_flight = problem(409, {"Retry-After": "1"})
    for unclear in (httpx.ReadError("x"), httpx.RemoteProtocolError("x"), problem(504), in_flight):
        pauses, error = ask(unclear, attempt=ONCE)
        assert pauses == []
        assert isinstance(error, ServiceProblem | ServiceUnreachable)


def test_pauses_double_up_to_a_limit_and_end_with_the_retries() -> None:
    pauses, error = ask(*[problem(503)] * 8, retries=7, seconds=1000.0)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0]
    assert isinstance(error, ServiceProblem)
    assert ask(*[problem(503)] * 3, retries=2, jitter=0.0, seconds=1000.0)[0] == [0.25, 0.5]
    assert ask(problem(503), retries=0)[0] == []


def test_the_wait_that_the_service_asks_for_is_kept_and_something_added() -> None:
    assert ask(problem(503, {"Retry-After": "7"}), problem(503, {"Retry-After": "3"}), OK)[0] == [7.5, 4.0]


def test_a_wait_beyond_all_patience_is_not_begun() -> None:
    pauses, error = ask(problem(429, {"Retry-After": "61"}))
    assert pauses == []
    assert error.retry_after_s == 61.0
    pauses, error = ask(*[problem(503, {"Retry-After": "10"})] * 3, seconds=25.0)
    assert pauses == [10.5, 11.0]
    assert error.status == 503


def test_a_date_is_a_wait_too_and_nonsense_is_none() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=3000), usegmt=True)
    assert 2900 < ask(problem(503, {"Retry-After": later}))[1].retry_after_s <= 3000
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    assert ask(problem(503, {"Retry-After": past}), OK)[0] == [0.5]
    for nonsense in ("soon", "-5", "1e9", "٣"):
        answer = httpx.Response(503, headers={"Retry-After": nonsense.encode()})
        assert ask(answer, OK)[0] == [0.5], nonsense


def test_a_problem_carries_every_field_of_the_answer() -> None:
    given = problem(422, {"X-Request-Id": "order-17"}, field="notes[0]", value="'x'", rule="must be short")
    _, error = ask(given)
    assert (error.field, error.value, error.rule) == ("notes[0]", "'x'", "must be short")
    assert (error.title, error.instance, error.request_id) == ("Title", "urn:uuid:1", "order-17")
    assert str(error) == "the service answered 422: Detail."


@pytest.mark.parametrize("answer", [httpx.Response(502, text="<html>Jane"), httpx.Response(500, json={"error": "x"})])
def test_an_error_of_a_proxy_is_raised_with_its_status(answer: httpx.Response) -> None:
    _, error = ask(answer)
    assert str(error) == f"the service answered {answer.status_code}: {answer.reason_phrase}"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"title": "Jane"}', b"\xff"])
def test_an_answer_that_is_none_is_refused_without_quoting_it(body: bytes) -> None:
    pauses, error = drive(exchange(GET, reader(ProblemAnswer), Patience()), httpx.Response(200, content=body))
    assert pauses == []
    assert isinstance(error, UnreadableAnswer)
    assert "Jane" not in str(error)
