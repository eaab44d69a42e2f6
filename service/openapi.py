"""The OpenAPI document: what the doors take, with examples, and every problem they answer with."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.responses import HTMLResponse

from consilium.schemas import (
    DIAGNOSE_EXAMPLE,
    EXPLAIN_EXAMPLE,
    FEEDBACK_EXAMPLE,
    DiagnoseRequest,
    DiagnosisAnswer,
    ExplainRequest,
    ExplanationAnswer,
    FeedbackAnswer,
    FeedbackRequest,
    ModelInformation,
    ProblemAnswer,
    ResultAnswer,
)
from service.problems import MEDIA_TYPE

DESCRIPTION = """\
Radiographs, clinical notes and observations of one patient become a calibrated probability per finding, and an
explanation of what spoke for it. Decision support for professionals; not a certified medical device.

Records go in de-identified as far as the caller can: nothing in an answer or a log names a patient.
"""

_REFS = "#/components/schemas/{model}"

_DIAGNOSIS_EXAMPLE: dict[str, Any] = {
    "result_id": FEEDBACK_EXAMPLE["result_id"],
    "findings": [
        {
            "finding": "pneumonia",
            "display": "Pneumonia",
            "code": "233604007",
            "probability": 0.83,
            "call": True,
            "operating_point": {
                "threshold": 0.21,
                "target_sensitivity": 0.9,
                "sensitivity": {"value": 0.9, "low": 0.85, "high": 0.94},
                "specificity": {"value": 0.78, "low": 0.74, "high": 0.82},
            },
            "opinions": {"image": 0.71, "text": 0.55, "observations": 0.6},
            "interval": [0.78, 0.87],
            "prediction_set": ["present"],
        }
    ],
    "exclusive": False,
    "modalities": ["image", "text", "observations"],
    "model": {"name": "consilium-phantom", "version": "3", "manifest_digest": "9f2c" * 16},
    "input_digests": {"images[0]": "51ab" * 16, "notes[0]": "07de" * 16, "observations": "c3f1" * 16},
    "warnings": [],
    "novelty": [
        {"part": "image", "score": 11.2, "p_value": 0.003, "novel": True},
        {"part": "text", "score": 3.1, "p_value": 0.62, "novel": False},
        {"part": "observations", "score": 0.7, "p_value": 0.81, "novel": False},
        {"part": "fused", "score": 5.4, "p_value": 0.09, "novel": False},
    ],
    "refer": ["The image is unlike the training data."],
    "audit": {"verdict": "sound", "reasons": []},
    "caller_reference": "worklist-4711",
}
_EXPLANATION_EXAMPLE: dict[str, Any] = _DIAGNOSIS_EXAMPLE | {
    "explanations": [
        {
            "finding": "pneumonia",
            "log_odds": 1.6,
            "prior_log_odds": -1.9,
            "modalities": {"image": 1.8, "text": 0.9, "observations": 0.8},
            "images": [
                {
                    "image": 0,
                    "cells": [16, 16],
                    "peak": {"row": 1402, "column": 611, "value": 0.31},
                    "overlay": {
                        "media_type": "image/png",
                        "rows": 2048,
                        "columns": 2048,
                        "scale": 0.31,
                        "data": "iVBORw0KGgoAAAANSUhEUgAA…",
                    },
                }
            ],
            "words": [{"note": 0, "start": 24, "end": 29, "text": "cough", "weight": 0.21}],
            "observations": [
                {"analyte": "crp", "display": "C-reactive protein", "value": "112", "unit": "mg/L", "weight": 0.64}
            ],
            "methods": {"image": "gradient_x_activation", "modalities": "shapley"},
        }
    ],
    "neighbours": [
        {
            "pseudonym": "b7d1c90f2a44",
            "similarity": 0.94,
            "labels": {"pneumonia": True},
            "modalities": ["image", "text"],
        }
    ],
}
_FEEDBACK_EXAMPLE: dict[str, Any] = {
    "feedback_id": "5b0f1a52-61a4-4a37-b5a8-0f2d4f5c9a10",
    "result_id": FEEDBACK_EXAMPLE["result_id"],
    "time": "2024-03-06T14:30:00Z",
}
_RESULT_EXAMPLE: dict[str, Any] = {
    "result_id": FEEDBACK_EXAMPLE["result_id"],
    "time": "2024-03-05T09:00:03.123456Z",
    "endpoint": "diagnose",
    "role": "serving",
    "request_id": "3a4f6f0e-7d0e-4a43-8f0a-2f1de0a3c1b7",
    "caller": "key:4f1c2a9be07d",
    "model": _DIAGNOSIS_EXAMPLE["model"],
    "pseudonyms": {"key_id": "779d2596", "patient": "81ae" * 16, "study": "6505" * 16, "caller_reference": "ae8d" * 16},
    "input_digests": {
        "images[0]": f"sha256:{'51ab' * 16}",
        "notes[0]": f"hmac-sha256:779d2596:{'a837' * 16}",
    },
    "findings": [
        {
            "finding": "pneumonia",
            "probability": 0.83,
            "interval": [0.78, 0.87],
            "call": True,
            "threshold": 0.21,
            "prediction_set": ["present"],
        }
    ],
    "refer": ["The image is unlike the training data."],
    "latencies_ms": {"decode": 31.2, "prepare": 4.1, "diagnose": 48.7},
    "feedback": [
        {
            "feedback_id": _FEEDBACK_EXAMPLE["feedback_id"],
            "finding": "pneumonia",
            "state": "present",
            "time": _FEEDBACK_EXAMPLE["time"],
            "caller": "key:4f1c2a9be07d",
        }
    ],
}
_MODEL_EXAMPLE: dict[str, Any] = {
    "model": _DIAGNOSIS_EXAMPLE["model"],
    "description": "Four findings of the phantom cohort.",
    "findings": [{"name": "pneumonia", "display": "Pneumonia", "code": "233604007"}],
    "exclusive": False,
    "reads": {
        "modalities": ["image", "text", "observations"],
        "note_kinds": ["history", "indication"],
        "before_hours": 72.0,
        "after_hours": 0.0,
    },
    "limits": {
        "body_bytes": 134217728,
        "images": 8,
        "image_bytes": 67108864,
        "image_pixels": 64000000,
        "notes": 32,
        "note_characters": 20000,
        "observations": 500,
    },
    "audit": {"verdict": "sound", "reasons": []},
    "card": "/v1/model/card",
    "deployment": {
        "follows": "models:/consilium-phantom@champion",
        "since": "2024-03-05T08:59:12Z",
        "registry": "reachable",
        "last_refusal": {
            "model": {"name": "consilium-phantom", "version": "2", "manifest_digest": "77c0" * 16},
            "reason": "digest",
            "detail": "consilium-phantom version 2: its artifact was altered: model.safetensors: was altered, "
            "its SHA-256 must be that of the manifest",
            "time": "2024-03-04T17:20:41Z",
        },
        "canary": {"name": "consilium-phantom", "version": "4", "manifest_digest": "c3a8" * 16},
        "canary_share": 0.1,
    },
}
_NO_MODEL = (
    "No model is loaded yet, too many requests are waiting, or the record cannot be reached: come again after "
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
    429: ("This caller sends more requests per minute than it may.", "too-many-requests"),
    503: (_NO_MODEL, "service-unavailable"),
    504: ("The answer took too long.", "gateway-timeout"),
}
_AT_THE_DOOR = [401, 403, 429]
_OF_A_STUDY = [400, *_AT_THE_DOOR, 408, 413, 415, 422, 503, 504]
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
            (FeedbackRequest, "validation"),
            (ProblemAnswer, "serialization"),
        ],
        ref_template=_REFS,
    )
    described.setdefault("components", {}).setdefault("schemas", {}).update(schemas["$defs"])
    for path, summary in (("/livez", "The process answers."), ("/readyz", "The model is loaded and has answered.")):
        health = {"summary": summary, "tags": ["health"], "responses": _health(path), "security": []}
        described["paths"][path] = {"get": health}
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
    parts = {
        "images": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": "Zero or more DICOM, PNG, JPEG or TIFF files. A URL or any other text value is refused.",
        },
        "request": {"$ref": _REFS.format(model=request.__name__)},
    }
    media = {
        "schema": {"type": "object", "properties": parts, "additionalProperties": False},
        "encoding": {"request": {"contentType": "application/json"}},
        "example": {"request": example},
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": media}}}


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
    "responses": _answers(DiagnosisAnswer, _DIAGNOSIS_EXAMPLE, [*_OF_A_STUDY, 409]),
    "openapi_extra": _multipart(DiagnoseRequest, DIAGNOSE_EXAMPLE) | {"parameters": [_IDEMPOTENCY_KEY]},
}
EXPLAIN: dict[str, Any] = {
    "summary": "The same, and what spoke for and against each finding",
    "operation_id": "explain",
    "tags": ["diagnosis"],
    "responses": _answers(ExplanationAnswer, _EXPLANATION_EXAMPLE, _OF_A_STUDY),
    "openapi_extra": _multipart(ExplainRequest, EXPLAIN_EXAMPLE),
}
_NO_RESULT = _problem(404, ("The record holds no answer of this id.", "no-such-result"))
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
    "tags": ["record"],
    "responses": _answers(ResultAnswer, _RESULT_EXAMPLE, [*_AT_THE_DOOR, 422, 503]) | {404: _NO_RESULT},
    "openapi_extra": {"parameters": [_RESULT_ID]},
}
_FEEDBACK_BODY = {
    "schema": {"$ref": _REFS.format(model=FeedbackRequest.__name__)},
    "example": FEEDBACK_EXAMPLE,
}
_FEEDBACK_RESPONSES = _answers(FeedbackAnswer, _FEEDBACK_EXAMPLE, [400, *_AT_THE_DOOR, 408, 413, 415, 422, 503])
FEEDBACK: dict[str, Any] = {
    "summary": "What turned out to be true of an earlier answer",
    "operation_id": "feedback",
    "tags": ["record"],
    "status_code": 201,
    "responses": {201 if status == 200 else status: answer for status, answer in _FEEDBACK_RESPONSES.items()}
    | {404: _NO_RESULT},
    "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": _FEEDBACK_BODY}}},
}
MODEL: dict[str, Any] = {
    "summary": "Which model answers, what it reads, and what a request may hold",
    "operation_id": "model",
    "tags": ["model"],
    "responses": _answers(ModelInformation, _MODEL_EXAMPLE, [*_AT_THE_DOOR, 503]),
}
CARD: dict[str, Any] = {
    "summary": "The model's card, a page for people: intended use, cohort, evaluation, limits",
    "operation_id": "card",
    "tags": ["model"],
    "response_class": HTMLResponse,
    "responses": {status: _problem(status) for status in (*_AT_THE_DOOR, 404, 503)} | {200: {"description": "A page."}},
}
