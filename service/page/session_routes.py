"""What an admin sees and ends: `GET /v1/sessions`, `DELETE /v1/sessions/{session_id}`, `GET /v1/sign-ins`."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from consilium.api.schemas import ProblemAnswer, SessionsAnswer, SignInsAnswer
from consilium.domain.errors import InputError
from consilium.formats.times import read_time
from service.audit_log.audit_routes import caller_of, origin_of, uuid_of
from service.http.problems import MEDIA_TYPE, NotOffered
from service.http.queries import require_known
from service.page.page import Page
from service.page.sessions import Sessions

_MOST_EVENTS = 1000
_USUAL_EVENTS = 100
_SESSION = {
    "session_id": "7c0b3ad0-4f0e-4a53-9d0c-3a1de6e0f9b1",
    "caller": "oidc:dr-house",
    "method": "oidc",
    "created": "2026-03-02T07:58:12Z",
    "seen": "2026-03-02T09:14:40Z",
    "ends": "2026-03-02T15:58:12Z",
    "browser": "Firefox, Linux",
}
_SIGN_IN = {
    "time": "2026-03-02T07:58:12Z",
    "event": "signed_in",
    "method": "oidc",
    "caller": "oidc:dr-house",
    "session_id": _SESSION["session_id"],
    "actor": None,
    "request_id": "0d9f4a1e-8d5c-4f0c-9a54-5a1c2f6d7b11",
}


class NoSuchSession(InputError):
    """There is no session of this id, or it has ended."""

    status = 404


async def list_sessions(request: Request) -> Response:
    """The sessions of all readers that have not ended, newest first."""
    return _json(SessionsAnswer(sessions=tuple(await _sessions(request).listed())))


async def revoke_session(request: Request) -> Response:
    """End a reader's session, or all of that reader."""
    session_id = uuid_of(request, "session_id")
    origin, of_caller = origin_of(request), _of_caller(request)
    if not await _sessions(request).revoke(session_id, caller_of(request), origin.request_id, of_caller=of_caller):
        raise NoSuchSession("session_id", str(session_id), "must be the id of a session that has not ended")
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def list_sign_ins(request: Request) -> Response:
    """Who signed in and out, who could not, and whose session was ended by whom; newest first."""
    events = await _sessions(request).events(_before(request), _limit(request))
    return _json(SignInsAnswer(events=tuple(events)))


def _sessions(request: Request) -> Sessions:
    page: Page | None = request.app.state.page
    if page is None or page.sessions is None:
        raise NotOffered("Nobody signs in here: the reading page is off, or everybody is let in.")
    return page.sessions


def _of_caller(request: Request) -> bool:
    require_known(request.query_params, "of_caller")
    given = request.query_params.get("of_caller", "false")
    if given not in ("true", "false"):
        raise InputError("of_caller", given[:20], "must be true or false")
    return given == "true"


def _before(request: Request) -> datetime | None:
    require_known(request.query_params, "before", "limit")
    given = request.query_params.get("before")
    if given is None:
        return None
    moment, _ = read_time(given, "before")
    if moment is None:
        raise InputError("before", given, "must be a date and time (ISO 8601)")
    return moment


def _limit(request: Request) -> int:
    given = request.query_params.get("limit", str(_USUAL_EVENTS))
    if not given.isdecimal() or len(given) > len(str(_MOST_EVENTS)) or not 0 < int(given) <= _MOST_EVENTS:
        raise InputError("limit", given, f"must be a whole number from 1 to {_MOST_EVENTS}")
    return int(given)


def _json(answer: SessionsAnswer | SignInsAnswer) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")


def _problem(status: HTTPStatus, kind: str, description: str) -> dict[str, Any]:
    example = {
        "type": f"urn:consilium:problem:{kind}",
        "title": status.phrase,
        "status": status,
        "detail": description,
        "instance": "urn:uuid:0d9f4a1e-8d5c-4f0c-9a54-5a1c2f6d7b11",
    }
    schema = {"$ref": f"#/components/schemas/{ProblemAnswer.__name__}"}
    found: dict[str, Any] = {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": schema, "example": example}},
    }
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        found["headers"] = {"WWW-Authenticate": {"description": "RFC 6750.", "schema": {"type": "string"}}}
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        found["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return found


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: _problem(HTTPStatus.UNAUTHORIZED, "unauthorized", "The token is missing, or not valid."),
    403: _problem(HTTPStatus.FORBIDDEN, "forbidden", "The token lacks the scope admin."),
    404: _problem(HTTPStatus.NOT_FOUND, "not-found", "Nobody signs in here, or there is no such session."),
    422: _problem(HTTPStatus.UNPROCESSABLE_ENTITY, "input-error", "A value is not what it must be."),
    429: _problem(HTTPStatus.TOO_MANY_REQUESTS, "too-many-requests", "This caller exceeds its limit of requests."),
    503: _problem(HTTPStatus.SERVICE_UNAVAILABLE, "service-unavailable", "The sessions are unavailable."),
}


def _described(summary: str, name: str, model: type[Any], example: dict[str, Any]) -> dict[str, Any]:
    answer = {"model": model, "content": {"application/json": {"example": example}}}
    return {"summary": summary, "operation_id": name, "tags": ["sessions"], "responses": _PROBLEMS | {200: answer}}


def _parameter(name: str, where: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "schema": schema, "description": description}


SESSIONS = _described("Readers' sessions", "list_sessions", SessionsAnswer, {"sessions": [_SESSION]})
REVOKE: dict[str, Any] = {
    "summary": "End a reader's session, or all sessions of that reader",
    "operation_id": "revoke_session",
    "tags": ["sessions"],
    "status_code": 204,
    "responses": _PROBLEMS | {204: {"description": "It has ended."}},
    "openapi_extra": {
        "parameters": [
            _parameter("session_id", "path", {"type": "string", "format": "uuid"}, "Of the session."),
            _parameter(
                "of_caller",
                "query",
                {"type": "boolean", "default": False},
                "End all sessions of whoever has this one: who they are stands in no address.",
            ),
        ]
    },
}
SIGN_INS = _described(
    "Who signed in and out of the reading page", "list_sign_ins", SignInsAnswer, {"events": [_SIGN_IN]}
) | {
    "openapi_extra": {
        "parameters": [
            _parameter("before", "query", {"type": "string", "format": "date-time"}, "Only what happened earlier."),
            _parameter(
                "limit",
                "query",
                {"type": "integer", "minimum": 1, "maximum": _MOST_EVENTS, "default": _USUAL_EVENTS},
                "How many at most.",
            ),
        ]
    }
}
