"""Answers to record, by the fake model's rule."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import numpy as np

from consilium.domain.study import Study, identifier_digest
from consilium.modalities.image.image_record import Image
from consilium.modalities.text.note import Note, NoteKind
from service.audit_log.entries import Claim, Endpoint, Entry, Origin
from tests.service.fakes import FakeModel

NOTE = "Jane Roe, born 1950-01-01, coughs."
PATIENT = "MRN-0815"
STUDY_UID = "1.2.826.0.1.3680043.8.498.4711"
NOW = datetime(2026, 3, 5, 9, 0, 0, 123456, tzinfo=UTC)


def image(patient: str | None = PATIENT) -> Image:
    return Image(
        np.full((4, 4), 52428, np.uint16),
        digest="5a" * 32,
        source="dicom",
        patient_digest=identifier_digest(patient or ""),
        study_digest=identifier_digest(STUDY_UID),
    )


def entry(*, patient: str | None = PATIENT, version: str = "7", claim: Claim | None = None, **more: Any) -> Entry:
    study = Study({"image": (image(patient),), "text": (Note(NoteKind.HISTORY, NOTE),)})
    model = FakeModel()
    model.identity = type(model.identity)("consilium-fake", version, "ab" * 32)
    values: dict[str, Any] = {
        "result_id": uuid4(),
        "time": NOW,
        "endpoint": Endpoint.DIAGNOSE,
        "origin": Origin("key:ward3", str(uuid4())),
        "diagnosis": model._diagnosis(study),
        "study": study,
        "caller_reference": "Roe^Jane",
        "latencies_ms": {"decode": 1.5, "diagnose": 20.25},
        "role": "serving",
        "body": b'{"answer": "of Jane Roe"}',
        "claim": claim,
    }
    return Entry(**values | more)
