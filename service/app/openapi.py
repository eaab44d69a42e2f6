"""The OpenAPI document: what the routes take, with examples, and every problem they answer with."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.responses import HTMLResponse

from consilium.api.schemas import (
    DIAGNOSE_EXAMPLE,
    DRAFT_EXAMPLE,
    EXPLAIN_EXAMPLE,
    FEEDBACK_EXAMPLE,
    MAX_GROUP,
    SEARCH_EXAMPLE,
    SIMILAR_EXAMPLE,
    DiagnoseRequest,
    DiagnosisAnswer,
    DraftAnswer,
    DraftRequest,
    ExplainRequest,
    ExplanationAnswer,
    ExplanationLine,
    FeedbackAnswer,
    FeedbackRequest,
    JobAnswer,
    ModelInformation,
    MonitorAnswer,
    ProblemAnswer,
    ResultAnswer,
    SearchAnswer,
    SearchRequest,
    SimilarAnswer,
    SimilarRequest,
    WorklistAnswer,
    WorklistCount,
    WorklistProblem,
)
from service.app import openapi_examples as examples
from service.app import openapi_parts as parts
from service.app import openapi_studies
from service.jobs.job_routes import LinesResponse
from service.serving.worklist import WorklistResponse

DESCRIPTION = """\
Radiographs, clinical notes and observations of one patient become a calibrated probability per finding, and an
explanation of the evidence for it. Decision support for professionals; not a certified medical device.

Records go in de-identified as far as the caller can: nothing in an answer or a log names a patient.
"""

_LINES_OF_A_WORKLIST = (WorklistAnswer, WorklistProblem, WorklistCount)
_LINES_OF_A_JOB = (WorklistAnswer, ExplanationLine, WorklistProblem, WorklistCount)


def document(app: FastAPI) -> str:
    """The OpenAPI document of `app`, as JSON."""
    described = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    _, schemas = models_json_schema(
        [
            (DiagnoseRequest, "validation"),
            (ExplainRequest, "validation"),
            (DraftRequest, "validation"),
            (SimilarRequest, "validation"),
            (SearchRequest, "validation"),
            (FeedbackRequest, "validation"),
            *((one, "validation") for one in openapi_studies.BODIES),
            *((one, "serialization") for one in openapi_studies.LINES_SENT),
            (ProblemAnswer, "serialization"),
            *((line, "serialization") for line in _LINES_OF_A_JOB),
        ],
        ref_template=parts.REFS,
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
    "responses": parts.answers(DiagnosisAnswer, examples.DIAGNOSIS, [*parts.OF_A_STUDY, 409]),
    "openapi_extra": parts.multipart(DiagnoseRequest, DIAGNOSE_EXAMPLE) | {"parameters": [_IDEMPOTENCY_KEY]},
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
    "responses": {status: parts.problem(status) for status in (400, *parts.OF_AUTHENTICATION, 408, 413, 415, 422, 503)}
    | {200: parts.lines("A line for each study, as they are answered", *_LINES_OF_A_WORKLIST)},
    "openapi_extra": parts.worklist(DiagnoseRequest) | {"parameters": [_WORKLIST_KEY]},
}
EXPLAIN: dict[str, Any] = {
    "summary": "The same, and the evidence for and against each finding",
    "operation_id": "explain",
    "tags": ["diagnosis"],
    "responses": parts.answers(ExplanationAnswer, examples.EXPLANATION, parts.OF_A_STUDY),
    "openapi_extra": parts.multipart(ExplainRequest, EXPLAIN_EXAMPLE),
}
DRAFT: dict[str, Any] = {
    "summary": "A draft of a report: what the diagnosis says, by rules, in a language's or the site's own phrases",
    "operation_id": "draft",
    "tags": ["diagnosis"],
    "responses": parts.answers(DraftAnswer, examples.DRAFT, parts.OF_A_STUDY),
    "openapi_extra": parts.multipart(DraftRequest, DRAFT_EXAMPLE),
}
SIMILAR: dict[str, Any] = {
    "summary": "The training cases that are most like this one, beside the diagnosis",
    "operation_id": "similar",
    "tags": ["diagnosis"],
    "responses": parts.answers(SimilarAnswer, examples.SIMILAR, parts.OF_A_STUDY)
    | {404: parts.problem(404, ("This model holds no training cases.", "not-found"))},
    "openapi_extra": parts.multipart(SimilarRequest, SIMILAR_EXAMPLE),
}
SEARCH: dict[str, Any] = {
    "summary": "The cases and sentences of the search index that are most like this study",
    "operation_id": "search",
    "tags": ["search"],
    "responses": parts.answers(SearchAnswer, examples.SEARCH, parts.OF_A_STUDY)
    | {404: parts.problem(404, ("This service has no search index: CONSILIUM_SEARCH_INDEX names none.", "not-found"))},
    "openapi_extra": parts.multipart(SearchRequest, SEARCH_EXAMPLE),
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
_JOB_GROUP = {
    "name": "reading_group",
    "in": "query",
    "schema": {"type": "string", "maxLength": MAX_GROUP},
    "description": "Store the studies for readers in this group, too, who see them once they are answered; a group of "
    "the caller's. Of jobs of the kind `explain`, where the service stores studies.",
}
_NO_JOB = parts.problem(404, ("This caller has no job of this id, or it has expired.", "no-such-job"))
_JOB_ID = {
    "name": "job_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
    "example": examples.JOB["job_id"],
}
_OF_A_JOB: dict[int | str, dict[str, Any]] = {
    404: _NO_JOB,
    **{status: parts.problem(status) for status in (*parts.OF_AUTHENTICATION, 422, 503)},
}
SUBMIT: dict[str, Any] = {
    "summary": "Several studies handed over, to be answered while nobody waits",
    "operation_id": "submit_job",
    "tags": ["jobs"],
    "status_code": 202,
    "responses": {
        status: parts.problem(status) for status in (400, *parts.OF_AUTHENTICATION, 408, 409, 413, 415, 422, 503)
    }
    | {
        429: parts.problem(
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
    "openapi_extra": parts.worklist(DiagnoseRequest, ExplainRequest)
    | {"parameters": [_JOB_KIND, _JOB_GROUP, _JOB_KEY]},
}
JOB: dict[str, Any] = {
    "summary": "How far a job is",
    "operation_id": "job",
    "tags": ["jobs"],
    "responses": parts.answers(JobAnswer, examples.JOB, []) | _OF_A_JOB,
    "openapi_extra": {"parameters": [_JOB_ID]},
}
CANCEL: dict[str, Any] = {
    "summary": "End a job: no study of it is answered from now on, and what was sent is deleted",
    "operation_id": "cancel_job",
    "tags": ["jobs"],
    "responses": parts.answers(JobAnswer, examples.JOB | {"state": "cancelled"}, []) | _OF_A_JOB,
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
        200: parts.lines("A line for each study, in their order", *_LINES_OF_A_JOB),
        409: parts.problem(409, ("The job has not ended yet.", "conflict")),
    },
    "openapi_extra": {"parameters": [_JOB_ID]},
}
DISCARD: dict[str, Any] = {
    "summary": "Delete the answers of a job that has ended, and the job, before they expire",
    "operation_id": "discard_job",
    "tags": ["jobs"],
    "status_code": 204,
    "responses": _OF_A_JOB
    | {204: {"description": "They are deleted."}, 409: parts.problem(409, ("The job has not ended yet.", "conflict"))},
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
    "responses": parts.answers(ResultAnswer, examples.RESULT, [*parts.OF_AUTHENTICATION, 422, 503])
    | {404: parts.problem(404, _NO_RESULT_OF_ITS_OWN)},
    "openapi_extra": {"parameters": [_RESULT_ID]},
}
_FEEDBACK_BODY = {
    "schema": {"$ref": parts.REFS.format(model=FeedbackRequest.__name__)},
    "example": FEEDBACK_EXAMPLE,
}
_FEEDBACK_RESPONSES = parts.answers(
    FeedbackAnswer, examples.FEEDBACK, [400, *parts.OF_AUTHENTICATION, 408, 413, 415, 422, 503]
)
FEEDBACK: dict[str, Any] = {
    "summary": "What turned out to be true of an earlier answer",
    "operation_id": "feedback",
    "tags": ["audit log"],
    "status_code": 201,
    "responses": {201 if status == 200 else status: answer for status, answer in _FEEDBACK_RESPONSES.items()}
    | {404: parts.problem(404, _NO_RESULT)},
    "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": _FEEDBACK_BODY}}},
}
MODEL: dict[str, Any] = {
    "summary": "Which model answers, what it reads, and what a request may hold",
    "operation_id": "model",
    "tags": ["model"],
    "responses": parts.answers(ModelInformation, examples.MODEL, [*parts.OF_AUTHENTICATION, 503]),
}
CARD: dict[str, Any] = {
    "summary": "The model's card, a page for people: intended use, cohort, evaluation, limits",
    "operation_id": "card",
    "tags": ["model"],
    "response_class": HTMLResponse,
    "responses": {status: parts.problem(status) for status in (*parts.OF_AUTHENTICATION, 404, 503)}
    | {200: {"description": "A page."}},
}
_NO_LOOK = ("The answers of this model have not been looked at yet.", "not-found")
MONITOR: dict[str, Any] = {
    "summary": "What `consilium monitor run` found last: what has changed of the model's input and answers",
    "operation_id": "monitor",
    "tags": ["model"],
    "responses": parts.answers(MonitorAnswer, examples.MONITOR, [*parts.OF_AUTHENTICATION, 503])
    | {404: parts.problem(404, _NO_LOOK)},
}
MONITOR_REPORT: dict[str, Any] = CARD | {
    "summary": "The same as a page for people",
    "operation_id": "monitor_report",
    "responses": CARD["responses"] | {404: parts.problem(404, _NO_LOOK)},
}
