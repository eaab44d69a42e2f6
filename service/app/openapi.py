"""The OpenAPI document: what the routes take, with examples, and every problem they answer with."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.responses import HTMLResponse

from consilium.api.schemas import (
    DIAGNOSE_EXAMPLE,
    EXPLAIN_EXAMPLE,
    FEEDBACK_EXAMPLE,
    SIMILAR_EXAMPLE,
    WORKLIST_EXAMPLE,
    DiagnoseRequest,
    DiagnosisAnswer,
    ExplainRequest,
    ExplanationAnswer,
    ExplanationLine,
    FeedbackAnswer,
    FeedbackRequest,
    JobAnswer,
    ModelInformation,
    ProblemAnswer,
    ResultAnswer,
    SimilarAnswer,
    SimilarRequest,
    WorklistAnswer,
    WorklistCount,
    WorklistProblem,
)
from consilium.modalities.modality import FileInput
from consilium.modalities.registry import file_inputs
from service.app import openapi_examples as examples
from service.http.problems import MEDIA_TYPE
from service.jobs.job_routes import LinesResponse
from service.serving.worklist import MEDIA_TYPE as LINES
from service.serving.worklist import WorklistResponse

DESCRIPTION = """\
Radiographs, clinical notes and observations of one patient become a calibrated probability per finding, and an
explanation of the evidence for it. Decision support for professionals; not a certified medical device.

Records go in de-identified as far as the caller can: nothing in an answer or a log names a patient.
"""

_REFS = "#/components/schemas/{model}"

_LINES_OF_A_WORKLIST = (WorklistAnswer, WorklistProblem, WorklistCount)
_LINES_OF_A_JOB = (WorklistAnswer, ExplanationLine, WorklistProblem, WorklistCount)
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
_OF_AUTHENTICATION = [401, 403, 429]
_OF_A_STUDY = [400, *_OF_AUTHENTICATION, 408, 413, 415, 422, 503, 504]
_BROKEN_RULES = {
    400: ("request", "a text that is no JSON", "must be JSON in UTF-8 (not at line 1 column 1)"),
    413: ("images[0]", "more than 67108864 bytes", "must hold at most 67108864 bytes"),
    415: ("Content-Type", "'application/json'", "must be multipart/form-data"),
    422: ("observations[0]", "'unti'", "is no known key; the nearest is 'unit'"),
}


def document(app: FastAPI) -> str:
    """The OpenAPI document of `app`, as JSON."""
    described = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    _, schemas = models_json_schema(
        [
            (DiagnoseRequest, "validation"),
            (ExplainRequest, "validation"),
            (SimilarRequest, "validation"),
            (FeedbackRequest, "validation"),
            (ProblemAnswer, "serialization"),
            *((line, "serialization") for line in _LINES_OF_A_JOB),
        ],
        ref_template=_REFS,
    )
    described.setdefault("components", {}).setdefault("schemas", {}).update(schemas["$defs"])
    ready = "The model is loaded and has answered, and the audit log was reached."
    for path, summary in (("/livez", "The process answers."), ("/readyz", ready)):
        health = {"summary": summary, "tags": ["health"], "responses": _health(path), "security": []}
        described["paths"][path] = {"get": health}
    # Relative to this document (OpenAPI 3.1, 4.8.5): a proxy may have put a prefix before all paths.
    described["servers"] = [{"url": "."}]
    described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    described["security"] = [{"token": []}]
    return json.dumps(described, ensure_ascii=False)


def _health(path: str) -> dict[str, Any]:
    answers = {"200": {"description": "Yes."}}
    return answers | ({"503": {"description": "Not yet."}} if path == "/readyz" else {})


def _problem(status: int, described: tuple[str, str] | None = None) -> dict[str, Any]:
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
    schema = {"$ref": _REFS.format(model=ProblemAnswer.__name__)}
    answer: dict[str, Any] = {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": schema, "example": example}},
    }
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.CONFLICT):
        answer["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        answer["headers"] = {"WWW-Authenticate": {"description": "RFC 6750.", "schema": {"type": "string"}}}
    return answer


def _answers(model: type[BaseModel], example: dict[str, Any], problems: list[int]) -> dict[int | str, dict[str, Any]]:
    answers: dict[int | str, dict[str, Any]] = {status: _problem(status) for status in problems}
    answers[200] = {"model": model, "content": {"application/json": {"example": example}}}
    return answers


def _multipart(request: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    parts = {name: _files(given) for name, given in file_inputs().items()}
    parts["request"] = {"$ref": _REFS.format(model=request.__name__)}
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


def _worklist(*requested: type[BaseModel]) -> dict[str, Any]:
    kinds = [{"$ref": _REFS.format(model=kind.__name__)} for kind in requested]
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


def _lines(described: str, *lines: type[BaseModel]) -> dict[str, Any]:
    """JSON Schema's way to say what a text holds (2020-12, validation, section 8)."""
    line = {"anyOf": [{"$ref": _REFS.format(model=line.__name__)} for line in lines]}
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in examples.WORKLIST)
    schema = {"type": "string", "contentMediaType": "application/json", "contentSchema": line}
    return {
        "description": f"{described}, and a count. Without the count it was cut off.",
        "content": {LINES: {"schema": schema | {"description": "Of each line."}, "example": text}},
    }


_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "Drawn by the caller for one request and sent again with every new attempt: the same body gets the "
    "same answer, byte for byte, with the header `Idempotent-Replayed: true`; another body 422; 409 with `Retry-After` "
    "while the first attempt is being answered.",
}
DIAGNOSE: dict[str, Any] = {
    "summary": "A calibrated probability per finding",
    "operation_id": "diagnose",
    "tags": ["diagnosis"],
    "responses": _answers(DiagnosisAnswer, examples.DIAGNOSIS, [*_OF_A_STUDY, 409]),
    "openapi_extra": _multipart(DiagnoseRequest, DIAGNOSE_EXAMPLE) | {"parameters": [_IDEMPOTENCY_KEY]},
}
_WORKLIST_KEY = _IDEMPOTENCY_KEY | {
    "description": "Drawn by the caller for one worklist and sent again with every new attempt, the same studies in "
    "the same places: a study that was answered gets the same answer, byte for byte, and the others are answered now."
}
WORKLIST: dict[str, Any] = {
    "summary": "The same for several studies; one that is refused is refused alone",
    "operation_id": "diagnose_batch",
    "tags": ["diagnosis"],
    "response_class": WorklistResponse,
    "status_code": 200,
    "responses": {status: _problem(status) for status in (400, *_OF_AUTHENTICATION, 408, 413, 415, 422, 503)}
    | {200: _lines("A line for each study, as they are answered", *_LINES_OF_A_WORKLIST)},
    "openapi_extra": _worklist(DiagnoseRequest) | {"parameters": [_WORKLIST_KEY]},
}
EXPLAIN: dict[str, Any] = {
    "summary": "The same, and the evidence for and against each finding",
    "operation_id": "explain",
    "tags": ["diagnosis"],
    "responses": _answers(ExplanationAnswer, examples.EXPLANATION, _OF_A_STUDY),
    "openapi_extra": _multipart(ExplainRequest, EXPLAIN_EXAMPLE),
}
SIMILAR: dict[str, Any] = {
    "summary": "The training cases that are most like this one, beside the diagnosis",
    "operation_id": "similar",
    "tags": ["diagnosis"],
    "responses": _answers(SimilarAnswer, examples.SIMILAR, _OF_A_STUDY)
    | {404: _problem(404, ("This model holds no training cases.", "not-found"))},
    "openapi_extra": _multipart(SimilarRequest, SIMILAR_EXAMPLE),
}
_JOB_KEY = _IDEMPOTENCY_KEY | {
    "description": "Drawn by the caller for one job and sent again with every new attempt: the same body gets the same "
    "job; another body 422; 409 with `Retry-After` while the first attempt is being received."
}
_JOB_KIND = {
    "name": "kind",
    "in": "query",
    "schema": {"type": "string", "enum": ["diagnose", "explain"], "default": "diagnose"},
    "description": "What is asked of each study; `requests` are those of that route.",
}
_NO_JOB = _problem(404, ("This caller has no job of this id, or it has expired.", "no-such-job"))
_JOB_ID = {
    "name": "job_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
    "example": examples.JOB["job_id"],
}
_OF_A_JOB: dict[int | str, dict[str, Any]] = {
    404: _NO_JOB,
    **{status: _problem(status) for status in (*_OF_AUTHENTICATION, 422, 503)},
}
SUBMIT: dict[str, Any] = {
    "summary": "Several studies handed over, to be answered while nobody waits",
    "operation_id": "submit_job",
    "tags": ["jobs"],
    "status_code": 202,
    "responses": {status: _problem(status) for status in (400, *_OF_AUTHENTICATION, 408, 409, 413, 415, 422, 503)}
    | {
        429: _problem(
            429,
            (
                "This caller exceeds its limit of requests per minute, or of jobs that have not ended.",
                "too-many-requests",
            ),
        ),
        202: {
            "model": JobAnswer,
            "description": "The studies are on the disk, encrypted, and will be answered.",
            "content": {"application/json": {"example": examples.JOB}},
            "headers": {"Location": {"description": "Relative to this path.", "schema": {"type": "string"}}},
        },
    },
    "openapi_extra": _worklist(DiagnoseRequest, ExplainRequest) | {"parameters": [_JOB_KIND, _JOB_KEY]},
}
JOB: dict[str, Any] = {
    "summary": "How far a job is",
    "operation_id": "job",
    "tags": ["jobs"],
    "responses": _answers(JobAnswer, examples.JOB, []) | _OF_A_JOB,
    "openapi_extra": {"parameters": [_JOB_ID]},
}
CANCEL: dict[str, Any] = {
    "summary": "End a job: no study of it is answered from now on, and what was sent is deleted",
    "operation_id": "cancel_job",
    "tags": ["jobs"],
    "responses": _answers(JobAnswer, examples.JOB | {"state": "cancelled"}, []) | _OF_A_JOB,
    "openapi_extra": {"parameters": [_JOB_ID]},
}
JOB_RESULTS: dict[str, Any] = {
    "summary": "What was answered to each study of a job that has ended",
    "operation_id": "job_results",
    "tags": ["jobs"],
    "response_class": LinesResponse,
    "status_code": 200,
    "responses": _OF_A_JOB
    | {
        200: _lines("A line for each study, in their order", *_LINES_OF_A_JOB),
        409: _problem(409, ("The job has not ended yet.", "conflict")),
    },
    "openapi_extra": {"parameters": [_JOB_ID]},
}
DISCARD: dict[str, Any] = {
    "summary": "Delete the answers of a job that has ended, and the job, before they expire",
    "operation_id": "discard_job",
    "tags": ["jobs"],
    "status_code": 204,
    "responses": _OF_A_JOB
    | {204: {"description": "They are deleted."}, 409: _problem(409, ("The job has not ended yet.", "conflict"))},
    "openapi_extra": {"parameters": [_JOB_ID]},
}
_NO_RESULT = ("The audit log holds no answer of this id.", "no-such-result")
_NO_RESULT_OF_ITS_OWN = ("This caller was given no answer of this id, and has not the scope `admin`.", "no-such-result")
_RESULT_ID = {
    "name": "result_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
    "example": FEEDBACK_EXAMPLE["result_id"],
}
RESULT: dict[str, Any] = {
    "summary": "What was recorded of an answer, and what was confirmed of it",
    "operation_id": "result",
    "tags": ["audit log"],
    "responses": _answers(ResultAnswer, examples.RESULT, [*_OF_AUTHENTICATION, 422, 503])
    | {404: _problem(404, _NO_RESULT_OF_ITS_OWN)},
    "openapi_extra": {"parameters": [_RESULT_ID]},
}
_FEEDBACK_BODY = {
    "schema": {"$ref": _REFS.format(model=FeedbackRequest.__name__)},
    "example": FEEDBACK_EXAMPLE,
}
_FEEDBACK_RESPONSES = _answers(FeedbackAnswer, examples.FEEDBACK, [400, *_OF_AUTHENTICATION, 408, 413, 415, 422, 503])
FEEDBACK: dict[str, Any] = {
    "summary": "What turned out to be true of an earlier answer",
    "operation_id": "feedback",
    "tags": ["audit log"],
    "status_code": 201,
    "responses": {201 if status == 200 else status: answer for status, answer in _FEEDBACK_RESPONSES.items()}
    | {404: _problem(404, _NO_RESULT)},
    "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": _FEEDBACK_BODY}}},
}
MODEL: dict[str, Any] = {
    "summary": "Which model answers, what it reads, and what a request may hold",
    "operation_id": "model",
    "tags": ["model"],
    "responses": _answers(ModelInformation, examples.MODEL, [*_OF_AUTHENTICATION, 503]),
}
CARD: dict[str, Any] = {
    "summary": "The model's card, a page for people: intended use, cohort, evaluation, limits",
    "operation_id": "card",
    "tags": ["model"],
    "response_class": HTMLResponse,
    "responses": {status: _problem(status) for status in (*_OF_AUTHENTICATION, 404, 503)}
    | {200: {"description": "A page."}},
}
