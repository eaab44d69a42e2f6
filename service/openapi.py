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
    DiagnoseRequest,
    DiagnosisAnswer,
    ExplainRequest,
    ExplanationAnswer,
    ModelInformation,
    ProblemAnswer,
)
from service.problems import MEDIA_TYPE

DESCRIPTION = """\
Radiographs, clinical notes and observations of one patient become a calibrated probability per finding, and an
explanation of what spoke for it. Decision support for professionals; not a certified medical device.

Records go in de-identified as far as the caller can: nothing in an answer or a log names a patient.
"""

_REFS = "#/components/schemas/{model}"

_DIAGNOSIS_EXAMPLE: dict[str, Any] = {
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
        "notes": 32,
        "note_characters": 20000,
        "observations": 500,
    },
    "audit": {"verdict": "sound", "reasons": []},
    "card": "/v1/model/card",
}
_NO_MODEL = "No model is loaded yet, or too many requests are waiting: come again after `Retry-After`."
_PROBLEMS = {
    400: ("The body is not multipart/form-data as it should be framed, or `request` is no JSON.", "malformed-request"),
    404: ("This model has no card.", "not-found"),
    408: ("The body took too long to arrive.", "request-timeout"),
    413: ("The body, a file, a note or their number exceeds its limit.", "too-large"),
    415: ("A kind of body or file that is not read.", "unsupported-media"),
    422: ("A record breaks a rule, an image cannot be read, or there is nothing that the model reads.", "input-error"),
    503: (_NO_MODEL, "service-unavailable"),
    504: ("The answer took too long.", "gateway-timeout"),
}
_OF_A_STUDY = [400, 408, 413, 415, 422, 503, 504]
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
        [(DiagnoseRequest, "validation"), (ExplainRequest, "validation"), (ProblemAnswer, "serialization")],
        ref_template=_REFS,
    )
    described.setdefault("components", {}).setdefault("schemas", {}).update(schemas["$defs"])
    for path, summary in (("/livez", "The process answers."), ("/readyz", "The model is loaded and has answered.")):
        described["paths"][path] = {"get": {"summary": summary, "tags": ["health"], "responses": _health(path)}}
    return json.dumps(described, ensure_ascii=False)


def _health(path: str) -> dict[str, Any]:
    answers = {"200": {"description": "Yes."}}
    return answers | ({"503": {"description": "Not yet."}} if path == "/readyz" else {})


def _problem(status: int) -> dict[str, Any]:
    description, kind = _PROBLEMS[status]
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
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        answer["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
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


DIAGNOSE: dict[str, Any] = {
    "summary": "A calibrated probability per finding",
    "operation_id": "diagnose",
    "tags": ["diagnosis"],
    "responses": _answers(DiagnosisAnswer, _DIAGNOSIS_EXAMPLE, _OF_A_STUDY),
    "openapi_extra": _multipart(DiagnoseRequest, DIAGNOSE_EXAMPLE),
}
EXPLAIN: dict[str, Any] = {
    "summary": "The same, and what spoke for and against each finding",
    "operation_id": "explain",
    "tags": ["diagnosis"],
    "responses": _answers(ExplanationAnswer, _EXPLANATION_EXAMPLE, _OF_A_STUDY),
    "openapi_extra": _multipart(ExplainRequest, EXPLAIN_EXAMPLE),
}
MODEL: dict[str, Any] = {
    "summary": "Which model answers, what it reads, and what a request may hold",
    "operation_id": "model",
    "tags": ["model"],
    "responses": _answers(ModelInformation, _MODEL_EXAMPLE, [503]),
}
CARD: dict[str, Any] = {
    "summary": "The model's card, a page for people: intended use, cohort, evaluation, limits",
    "operation_id": "card",
    "tags": ["model"],
    "response_class": HTMLResponse,
    "responses": {status: _problem(status) for status in (404, 503)} | {200: {"description": "A page."}},
}
