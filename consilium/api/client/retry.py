"""One call of the service: attempts and pauses until there is an answer, or no more to be hoped.

An exchange is a generator that says what to do next, an `Attempt` or a `Pause`, and is sent what came of it; so that
the blocking client and the asynchronous one share every decision, and tests need neither time nor a network.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeAlias, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from consilium.api.schemas import ProblemAnswer
from consilium.domain.errors import ConsiliumError, ServiceProblem, ServiceUnreachable, UnreadableAnswer

Answer = TypeVar("Answer")
Model = TypeVar("Model", bound=BaseModel)

EXTRA: Literal["ignore"] = "ignore"
"""What becomes of keys that a newer service adds to its answers. The service itself knows every key of what it says."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0
_LONGEST_DETAIL = 300
_UNTOUCHED = (httpx.ConnectError, httpx.ConnectTimeout)
"""Errors after which the service cannot have seen the request."""
_BROKEN = (httpx.NetworkError, httpx.ConnectTimeout, httpx.RemoteProtocolError)


@dataclass(frozen=True, slots=True)
class Attempt:
    """Send this request, and tell the response or the transport's error."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of httpx: ``files``, or ``content``."""
    repeatable: bool = True
    """Sent twice it does no more than once."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait, and tell nothing."""

    seconds: float


Step: TypeAlias = Attempt | Pause
Outcome: TypeAlias = httpx.Response | httpx.TransportError | None
Exchange: TypeAlias = Generator[Step, Outcome, Answer]


@dataclass(frozen=True, slots=True)
class Patience:
    """How often to try again, and how long to wait in total.

    Parameters
    ----------
    retries : int
        Attempts after the first.
    seconds : float
        Most time spent in pauses. A service that asks for a longer one is not asked again.
    jitter : callable
        A number between 0 and 1, so that callers who failed together do not come back together.
    """

    retries: int = 4
    seconds: float = 60.0
    jitter: Callable[[], float] = random.random

    def pause(self, number: int, asked_s: float | None) -> float:
        """How long to wait before the retry `number`, which counts from 0."""
        backoff = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**number)
        return (asked_s or 0.0) + backoff * (0.5 + 0.5 * self.jitter())


def exchange(attempt: Attempt, read: Callable[[httpx.Response], Answer], patience: Patience) -> Exchange[Answer]:
    """Make `attempt` until it succeeds, and give what `read` makes of the answer.

    Raises
    ------
    ServiceProblem, ServiceUnreachable, UnreadableAnswer
    """
    waited = 0.0
    number = 0
    while True:
        outcome = yield attempt
        if isinstance(outcome, httpx.Response) and outcome.is_success:
            return read(outcome)
        failure = _failure(outcome)
        pause = patience.pause(number, getattr(failure, "retry_after_s", None))
        if number >= patience.retries or waited + pause > patience.seconds or not _may_pass(outcome, attempt):
            raise failure
        yield Pause(pause)
        waited += pause
        number += 1


def once(attempt: Attempt) -> Exchange[Outcome]:
    """Make `attempt` once and give what came of it."""
    return (yield attempt)


def reader(model: type[Model]) -> Callable[[httpx.Response], Model]:
    """What makes a `model` of a response."""

    def read(response: httpx.Response) -> Model:
        try:
            return model.model_validate_json(response.content, extra=EXTRA)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the body"
            raise UnreadableAnswer(f"{model.__name__}: {where} cannot be read ({first['type']})") from None

    return read


def _may_pass(outcome: Outcome, attempt: Attempt) -> bool:
    """Whether the same request may succeed later, and may be sent again."""
    if not isinstance(outcome, httpx.Response):
        return isinstance(outcome, _BROKEN if attempt.repeatable else _UNTOUCHED)
    if outcome.status_code in (httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS):
        return True
    if outcome.status_code == httpx.codes.CONFLICT:
        # An earlier attempt of this very request is still being answered.
        return attempt.repeatable and "Retry-After" in outcome.headers
    return attempt.repeatable and outcome.status_code == httpx.codes.GATEWAY_TIMEOUT


def _failure(outcome: Outcome) -> ConsiliumError:
    if isinstance(outcome, httpx.Response):
        return _problem(outcome)
    why = f"{type(outcome).__name__}: {outcome}" if str(outcome) else type(outcome).__name__
    return ServiceUnreachable(f"no answer of the service arrived ({why})")


def _problem(response: httpx.Response) -> ServiceProblem:
    try:
        problem = ProblemAnswer.model_validate_json(response.content)
    except ValidationError:
        # Of a proxy in between, whose page is not ours to quote.
        return ServiceProblem(
            response.status_code, response.reason_phrase or "an error", **_about_problem(response.headers)
        )
    return service_problem(problem.model_copy(update={"status": response.status_code}), response.headers)


def service_problem(problem: ProblemAnswer, headers: httpx.Headers) -> ServiceProblem:
    """The error that `problem` describes, with what the headers of its response add."""
    detail = problem.detail if len(problem.detail) <= _LONGEST_DETAIL else problem.detail[: _LONGEST_DETAIL - 1] + "…"
    return ServiceProblem(
        problem.status,
        detail,
        title=problem.title,
        instance=problem.instance,
        field=problem.field,
        value=problem.value,
        rule=problem.rule,
        **_about_problem(headers),
    )


def _about_problem(headers: httpx.Headers) -> dict[str, Any]:
    return {
        "retry_after_s": _seconds(headers.get("Retry-After")),
        "request_id": headers.get("X-Request-Id"),
    }


def _seconds(header: str | None) -> float | None:
    """What ``Retry-After`` asks for: a number of seconds, or a date (RFC 9110, section 10.2.3)."""
    if header is None:
        return None
    if header.isascii() and header.strip().isdecimal():
        return float(header)
    try:
        then = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (then.replace(tzinfo=then.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
