"""The routes of the audit log: `GET /v1/results/{result_id}` and `POST /v1/feedback`."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from starlette.requests import Request
from starlette.responses import Response

from consilium.api.schemas import FeedbackRequest, parse_request
from consilium.domain.errors import InputError
from service.audit_log.entries import Origin
from service.audit_log.idempotency import HEADER, check_key
from service.auth.caller import ANONYMOUS
from service.http.small_bodies import read_json
from service.scopes import Scope

if TYPE_CHECKING:
    from service.audit_log.recorder import Recorder

_MOST_FEEDBACK_BYTES = 1 << 16


def origin_of(request: Request) -> Origin:
    """Who sent `request`, and under which names.

    Raises
    ------
    InputError
        For an idempotency key that is none.
    """
    request_id = getattr(request.state, "request_id", None) or str(uuid4())
    return Origin(caller_of(request), request_id, check_key(request.headers.get(HEADER)))


def caller_of(request: Request) -> str:
    """The name by which the caller was authenticated."""
    return str(getattr(request.state, "caller", None) or ANONYMOUS.name)


def only_of(request: Request) -> str | None:
    """Of whom the caller may see what was asked: its own name, or None for everybody's, which needs the scope admin."""
    return None if Scope.ADMIN in getattr(request.state, "scopes", ()) else caller_of(request)


def uuid_of(request: Request, name: str) -> UUID:
    """The id that the path holds as `name`.

    Raises
    ------
    InputError
    """
    given = request.path_params[name]
    try:
        return UUID(str(given))
    except ValueError:
        raise InputError(name, given, "must be a UUID") from None


async def result(request: Request, recorder: Recorder) -> Response:
    """What was recorded of one answer."""
    found = await recorder.result(uuid_of(request, "result_id"), only_of(request))
    return _json(found.model_dump_json())


async def feedback(request: Request, recorder: Recorder, receive_timeout_s: float) -> Response:
    """Keep what was confirmed of an answer."""
    body = await read_json(request, _MOST_FEEDBACK_BYTES, receive_timeout_s)
    asked = parse_request(FeedbackRequest, body)
    kept = await recorder.add_feedback(asked, caller_of(request))
    return _json(kept.model_dump_json(), HTTPStatus.CREATED)


def _json(body: str, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")
