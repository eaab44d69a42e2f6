"""Examples of what is answered of stored studies, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from consilium.api.schemas import FEEDBACK_EXAMPLE, FLAG_EXAMPLE, READ_EXAMPLE
from service.app.openapi_examples import MODEL

STUDY: dict[str, Any] = {
    "study_id": "4f3c6c1e-5a0d-4a77-9d0e-2f4a7c1b9e55",
    "state": "queued",
    "created": "2024-03-05T09:00:00Z",
    "expires": "2024-04-04T09:00:00Z",
    "problem": None,
}
SUMMARY: dict[str, Any] = STUDY | {
    "state": "answered",
    "studied": "2024-03-05T08:41:00Z",
    "patient": {"label": "Roe Jane · 4711", "age": 67.0, "sex": "F"},
    "modalities": ["image", "text"],
    "image_count": 1,
    "referred": False,
    "refer_reasons": [],
    "read": None,
    "called": None,
    "priority": None,
}
LIST: dict[str, Any] = {"studies": [SUMMARY], "next": None, "total": 1}
READ: dict[str, Any] = {
    "read_id": "0c0f4b0a-7a7c-4f2e-8a83-5d8a7e0e6b1d",
    "study_id": STUDY["study_id"],
    **READ_EXAMPLE,
    "influenced": False,
    "time": "2024-03-05T09:04:00Z",
    "caller": "key:5f2d9c1a7b3e",
    "result_id": FEEDBACK_EXAMPLE["result_id"],
}
FLAG: dict[str, Any] = {
    "flag_id": "f6c8c3a4-4f8a-4a6e-9e0d-6d1b0b7e9c22",
    "study_id": STUDY["study_id"],
    **FLAG_EXAMPLE,
    "time": "2024-03-05T09:05:00Z",
    "caller": "key:5f2d9c1a7b3e",
}
VIEW: dict[str, Any] = {
    "study_id": STUDY["study_id"],
    "what": "answer",
    "time": "2024-03-05T09:04:01Z",
    "caller": "key:5f2d9c1a7b3e",
}
DETAIL: dict[str, Any] = SUMMARY | {
    "warnings": [],
    "left_out": [],
    "priors": [
        {"study_id": "b1a8c1de-1d1c-4d5e-8c58-b4e6d0f5a3c7", "studied": "2023-11-02T10:12:00Z", "image_count": 2}
    ],
    "reading": {
        "policy": "after_first_read",
        "may_see_answer": False,
        "revealed": None,
        "findings": [{"name": "pneumonia", "display": "Pneumonia"}],
        "first_read": None,
        "revised_read": None,
        "others": [],
        "flags": [],
    },
}
_RATES: dict[str, Any] = {
    "answers": 96,
    "referred": 0.0625,
    "out_of_distribution": 0.03125,
    "refused": 0.0,
    "median_ms": 212.5,
    "p95_ms": 390.25,
}
OPERATIONS: dict[str, Any] = {
    "deployment": MODEL["deployment"],
    "queue": {"diagnoses": 0, "explanations": 1, "studies": 2, "jobs": 0},
    "versions": [
        {
            "model": "consilium-chest",
            "version": "12",
            "role": "serving",
            "answers": 412,
            "first": "2024-03-01T06:02:11Z",
            "last": "2024-03-05T09:00:03Z",
            "referred": 0.0625,
            "out_of_distribution": 0.03125,
            "compared": None,
            "agreeing": None,
        }
    ],
    "days": [{"day": "2024-03-05", **_RATES}],
    "hours": [{"hour": "2024-03-05T09:00:00Z", **_RATES, "answers": 7}],
    "stages": [{"stage": "explain", "median": 182.5, "p95": 260.25}],
    "agreement": [{"finding": "pneumonia", "reads": 80, "agree": 72}],
    "answers_looked_at": 412,
}
MODEL_HISTORY: dict[str, Any] = {
    "events": [
        {
            "time": "2024-03-04T22:15:00Z",
            "role": "serving",
            "event": "refused",
            "model": MODEL["model"] | {"version": "13"},
            "reason": "findings",
            "detail": "got pneumonia, the service answers pneumonia, effusion",
        },
        {
            "time": "2024-03-01T06:00:00Z",
            "role": "serving",
            "event": "loaded",
            "model": MODEL["model"],
            "reason": None,
            "detail": None,
        },
    ],
    "calibration": [
        {
            "finding": "pneumonia",
            "outcomes": 20,
            "points": [
                {"predicted": 0.31, "observed": 0.3, "observed_low": 0.145, "observed_high": 0.519, "outcomes": 20}
            ],
        }
    ],
}
