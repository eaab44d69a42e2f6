"""What the descriptions of routes have in common: bodies, answers, lines, and problems."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from consilium.api.schemas import WORKLIST_EXAMPLE, ProblemAnswer
from consilium.modalities.modality import FileInput
from consilium.modalities.registry import file_inputs
from service.app import openapi_examples as examples
from service.http.problems import MEDIA_TYPE
from service.serving.worklist import MEDIA_TYPE as LINES

REFS = "#/components/schemas/{model}"

_NO_MODEL = (
    "No model is loaded yet, too many requests are waiting, or the audit log is unavailable: try again after "
    "`Retry-After`."
)
_PROBLEMS = {
    400: ("The body is not multipart/form-data as it should be framed, or `request` is no JSON.", "malformed-request"),
    401: ("The token is missing, or not valid.", "unauthorized"),
    403: ("The token lacks the scope that this needs.", "forbidden"),
    404: ("This model has no card.", "not-found"),
    408: ("The body took too long to arrive.", "request-timeout"),
    409: ("A request with the same idempotency key is being answered.", "conflict"),
    413: ("The body, a file, a note or their number exceeds its limit.", "too-large"),
    415: ("A kind of body or file that is not read.", "unsupported-media"),
    422: ("A record breaks a rule, an image cannot be read, or there is nothing that the model reads.", "input-error"),
    429: ("This caller exceeds its limit of requests per minute.", "too-many-requests"),
    503: (_NO_MODEL, "service-unavailable"),
    504: ("The answer took too long.", "gateway-timeout"),
}
OF_AUTHENTICATION = [401, 403, 429]
OF_A_STUDY = [400, *OF_AUTHENTICATION, 408, 413, 415, 422, 503, 504]
_BROKEN_RULES = {
    400: ("request", "a text that is no JSON", "must be JSON in UTF-8 (not at line 1 column 1)"),
    413: ("images[0]", "more than 67108864 bytes", "must hold at most 67108864 bytes"),
    415: ("Content-Type", "'application/json'", "must be multipart/form-data"),
    422: ("observations[0]", "'unti'", "is no known key; the nearest is 'unit'"),
}


def problem(status: int, described: tuple[str, str] | None = None) -> dict[str, Any]:
    description, kind = described or _PROBLEMS[status]
    example: dict[str, Any] = {
        "type": f"urn:consilium:problem:{kind}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": description,
        "instance": "urn:uuid:0d9f4a1e-8d5c-4f0c-9a54-5a1c2f6d7b11",
    }
    if status in _BROKEN_RULES:
        field, value, rule = _BROKEN_RULES[status]
        example |= {"detail": f"{field}: got {value}, {rule}", "field": field, "value": value, "rule": rule}
    schema = {"$ref": REFS.format(model=ProblemAnswer.__name__)}
    answer: dict[str, Any] = {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": schema, "example": example}},
    }
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.CONFLICT):
        answer["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        answer["headers"] = {"WWW-Authenticate": {"description": "RFC 6750.", "schema": {"type": "string"}}}
    return answer


def answers(model: type[BaseModel], example: dict[str, Any], problems: list[int]) -> dict[int | str, dict[str, Any]]:
    found: dict[int | str, dict[str, Any]] = {status: problem(status) for status in problems}
    found[200] = {"model": model, "content": {"application/json": {"example": example}}}
    return found


def multipart(request: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    parts = {name: _files(given) for name, given in file_inputs().items()}
    parts["request"] = {"$ref": REFS.format(model=request.__name__)}
    return _form({"type": "object", "properties": parts, "additionalProperties": False}, "request", example)


def _files(given: FileInput) -> dict[str, Any]:
    return {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "description": given.description,
    }


def _form(schema: dict[str, Any], json_field: str, example: Any) -> dict[str, Any]:
    kinds = {
        part: "application/json" if part == json_field else ", ".join(file_inputs()[part.partition(".")[0]].media_types)
        for part in schema["properties"]
    }
    media = {
        "schema": schema,
        "encoding": {part: {"contentType": kind} for part, kind in kinds.items()},
        "example": {json_field: example},
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": media}}}


def json_body(request: type[BaseModel], example: Any) -> dict[str, Any]:
    """The body of a route that takes JSON."""
    media = {"schema": {"$ref": REFS.format(model=request.__name__)}, "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": media}}}


def worklist(*requested: type[BaseModel]) -> dict[str, Any]:
    kinds = [{"$ref": REFS.format(model=kind.__name__)} for kind in requested]
    requests = {"type": "array", "items": kinds[0] if len(kinds) == 1 else {"anyOf": kinds}, "minItems": 1}
    files = {
        name: _files(given)
        | {"description": f"`{name}.0` are the files of the first study in `requests`, and so on; as in `diagnose`."}
        for name, given in file_inputs().items()
    }
    schema = {
        "type": "object",
        # The first by its name, so that a form has a field for it.
        "properties": {"requests": requests | {"description": "One for each study."}}
        | {f"{name}.0": described for name, described in files.items()},
        "patternProperties": {rf"^{name}\.(0|[1-9][0-9]*)$": described for name, described in files.items()},
        "required": ["requests"],
        "additionalProperties": False,
    }
    return _form(schema, "requests", WORKLIST_EXAMPLE)


def lines(described: str, *kinds: type[BaseModel], example: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """JSON Schema's way to say what a text holds (2020-12, validation, section 8)."""
    line = {"anyOf": [{"$ref": REFS.format(model=line.__name__)} for line in kinds]}
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in example or examples.WORKLIST)
    schema = {"type": "string", "contentMediaType": "application/json", "contentSchema": line}
    return {
        "description": f"{described}, and a count. Without the count it was cut off.",
        "content": {LINES: {"schema": schema | {"description": "Of each line."}, "example": text}},
    }
