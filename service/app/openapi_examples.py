"""Examples of what the service answers, for the OpenAPI document; those of requests stand beside their types."""

from __future__ import annotations

from typing import Any

from consilium.api.schemas import FEEDBACK_EXAMPLE
from consilium.modalities.registry import declared_limits

DIAGNOSIS: dict[str, Any] = {
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
            "unimodal_probabilities": {"image": 0.71, "text": 0.55, "observations": 0.6},
            "interval": [0.78, 0.87],
            "prediction_set": ["present"],
            "refer_reasons": [],
        }
    ],
    "exclusive": False,
    "modalities": ["image", "text", "observations"],
    "absent": [],
    "model": {"name": "consilium-phantom", "version": "3", "manifest_digest": "9f2c" * 16},
    "input_digests": {"images[0]": "51ab" * 16, "notes[0]": "07de" * 16, "observations": "c3f1" * 16},
    "warnings": [],
    "out_of_distribution": [
        {"part": "image", "score": 11.2, "p_value": 0.003, "out_of_distribution": True},
        {"part": "text", "score": 3.1, "p_value": 0.62, "out_of_distribution": False},
        {"part": "observations", "score": 0.7, "p_value": 0.81, "out_of_distribution": False},
        {"part": "fused", "score": 5.4, "p_value": 0.09, "out_of_distribution": False},
    ],
    "refer_reasons": ["The image is out of distribution (p = 0.003)."],
    "audit": {"verdict": "sound", "reasons": []},
    "caller_reference": "worklist-4711",
}
_NEIGHBOURS: list[dict[str, Any]] = [
    {
        "pseudonym": "b7d1c90f2a44",
        "similarity": 0.94,
        "labels": {"pneumonia": True},
        "modalities": ["image", "text"],
    }
]
EXPLANATION: dict[str, Any] = DIAGNOSIS | {
    "explanations": [
        {
            "finding": "pneumonia",
            "display": "Pneumonia",
            "log_odds": 1.6,
            "prior_log_odds": -1.9,
            "modalities": {"image": 1.8, "text": 0.9, "observations": 0.8},
            "parts": {
                "image": [
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
                "text": [{"note": 0, "start": 24, "end": 29, "text": "cough", "weight": 0.21}],
                "observations": [
                    {"variable": "crp", "display": "C-reactive protein", "value": "112", "unit": "mg/L", "weight": 0.64}
                ],
            },
            "methods": {"image": "gradient_x_activation", "modalities": "shapley"},
        }
    ],
    "neighbours": _NEIGHBOURS,
}
DRAFT: dict[str, Any] = DIAGNOSIS | {
    "draft": {
        "language": "en",
        "sections": [
            {
                "name": "findings",
                "heading": "Findings",
                "sentences": [
                    {
                        "text": "Pneumonia is probable.",
                        "finding": "pneumonia",
                        "probability": 0.81,
                        "certainty": "probable",
                        "record": None,
                        "evidence": [{"modality": "text", "text": "fever", "log_odds": 0.9}],
                    }
                ],
            }
        ],
    }
}
SIMILAR: dict[str, Any] = DIAGNOSIS | {"neighbours": _NEIGHBOURS}
_ENCODERS = {"name": "consilium-encoders-chest", "version": "2", "manifest_digest": "4be0" * 16}
SEARCH: dict[str, Any] = {
    "result_id": FEEDBACK_EXAMPLE["result_id"],
    "cases": _NEIGHBOURS,
    "sentences": [
        {"sentence": "Consolidation in the right lower zone.", "similarity": 0.71, "case": _NEIGHBOURS[0]["pseudonym"]}
    ],
    "modalities": ["image", "text"],
    "absent": [],
    "encoders": _ENCODERS,
    "index_digest": "c81d" * 16,
    "input_digests": {"images[0]": "51ab" * 16, "notes[0]": "07de" * 16},
    "warnings": [],
    "caller_reference": "worklist-4711",
}
FEEDBACK: dict[str, Any] = {
    "feedback_id": "5b0f1a52-61a4-4a37-b5a8-0f2d4f5c9a10",
    "result_id": FEEDBACK_EXAMPLE["result_id"],
    "time": "2024-03-06T14:30:00Z",
}
RESULT: dict[str, Any] = {
    "result_id": FEEDBACK_EXAMPLE["result_id"],
    "time": "2024-03-05T09:00:03.123456Z",
    "endpoint": "diagnose",
    "role": "serving",
    "request_id": "3a4f6f0e-7d0e-4a43-8f0a-2f1de0a3c1b7",
    "caller": "key:4f1c2a9be07d",
    "model": DIAGNOSIS["model"],
    "pseudonyms": {
        "key_id": "779d2596",
        "patient": "81ae" * 16,
        "study": "6505" * 16,
        "accession": "7f3c" * 16,
        "caller_reference": "ae8d" * 16,
    },
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
    "refer_reasons": ["The image is out of distribution (p = 0.003)."],
    "latencies_ms": {"decode": 31.2, "prepare": 4.1, "diagnose": 48.7},
    "feedback": [
        {
            "feedback_id": FEEDBACK["feedback_id"],
            "finding": "pneumonia",
            "state": "present",
            "time": FEEDBACK["time"],
            "caller": "key:4f1c2a9be07d",
            "source": "feedback",
            "influenced": True,
        }
    ],
}
MODEL: dict[str, Any] = {
    "model": DIAGNOSIS["model"],
    "description": "Four findings of the phantom cohort.",
    "findings": [{"name": "pneumonia", "display": "Pneumonia", "code": "233604007"}],
    "exclusive": False,
    "reads": {
        "modalities": ["image", "text", "observations"],
        "before_hours": 72.0,
        "after_hours": 0.0,
        "parts": {
            "image": {
                "trained_on": {
                    "images": 8120,
                    "modality": {"DX": 6904, "CR": 1216},
                    "body_part": {"CHEST": 8120},
                    "for_processing": 0,
                },
            },
            "text": {"note_kinds": ["history", "indication"], "mask_notes": True},
            "observations": {
                "variables": [
                    {
                        "name": "grip_strength",
                        "display": "Grip strength",
                        "kind": "numeric",
                        "codes": [{"code": "GRIP", "system": "local", "unit": "kg", "display": "Grip strength"}],
                        "unit": "kg",
                        "categories": [],
                        "ordered": False,
                        "normal_categories": [],
                        "reference": [16.0, 60.0],
                        "reference_female": [16.0, 40.0],
                        "reference_male": [27.0, 60.0],
                        "plausible": [0.0, 120.0],
                    }
                ],
                "history": 1,
            },
        },
    },
    "limits": {"body_bytes": 134217728, **{limit.name: limit.served for limit in declared_limits()}},
    "weights": {
        "image": [{"architecture": "dinov2", "source": "microsoft/rad-dino", "sha256": "5d1e" * 16, "licence": "other"}]
    },
    "audit": {"verdict": "sound", "reasons": []},
    "backend": {
        "name": "bf16",
        "reference_studies": 21,
        "largest_deviation": 0.0031,
        "flipped": 0,
        "bound": 0.02,
        "margin": 0.005,
    },
    "card": "model/card",
    "search": {
        "encoders": _ENCODERS,
        "index_digest": "c81d" * 16,
        "modalities": ["image", "text", "observations"],
        "findings": ["pneumonia"],
        "cases": 11_204,
        "sentences": 8_431,
    },
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
        "shadow": None,
    },
}
JOB: dict[str, Any] = {
    "job_id": "9e6f9d5b-6a0e-4f55-8f0f-0f6d6d3c7a21",
    "kind": "diagnose",
    "state": "queued",
    "studies": 2,
    "answered": 0,
    "refused": 0,
    "submitted": "2024-03-05T21:00:00Z",
    "ended": None,
    "expires": "2024-03-06T21:00:00Z",
}
WORKLIST: list[dict[str, Any]] = [
    {
        "study": 1,
        "problem": {
            "type": "urn:consilium:problem:unsupported-media",
            "title": "Unsupported Media Type",
            "status": 415,
            "detail": "images[0]: got 'PDF', must be DICOM, PNG, JPEG or TIFF",
            "instance": "urn:uuid:0d9f4a1e-8d5c-4f0c-9a54-5a1c2f6d7b11",
            "field": "images[0]",
            "value": "'PDF'",
            "rule": "must be DICOM, PNG, JPEG or TIFF",
        },
    },
    {"study": 0, "answer": DIAGNOSIS},
    {"studies": 2, "answered": 1, "refused": 1},
]
"""Lines, as they may come."""
_OF_THE_MODEL = {"model": DIAGNOSIS["model"]["name"], "version": DIAGNOSIS["model"]["version"]}
MONITOR: dict[str, Any] = {
    **_OF_THE_MODEL,
    "until": "2026-11-30T06:00:00Z",
    "alarms": [
        {
            "name": "projection/image",
            "since": "2026-11-12",
            "statistic": "e-value",
            "e_value": 31000.0,
            "sentence": "The features of the image have changed since 2026-11-12.",
        }
    ],
    "gauges": [{"name": "consilium_monitor_alarms", "labels": _OF_THE_MODEL, "value": 1.0}],
}
