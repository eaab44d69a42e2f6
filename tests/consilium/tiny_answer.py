"""A study with its explanation, made without a model, that tests share."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from consilium.diagnosis import (
    Diagnosis,
    Estimate,
    Explanation,
    FindingExplanation,
    FindingResult,
    ImageSaliency,
    ModelIdentity,
    ObservationWeight,
    OperatingPoint,
    WordWeight,
)
from consilium.findings import Finding
from consilium.study import Image, Modality, Note, NoteKind, Observation, Patient, Sex, Study

TEXT = "fever <script>alert(1)</script> & cough"
POINT = OperatingPoint(0.3, 0.9, Estimate(0.9, 0.8, 0.95), Estimate(0.7, 0.6, 0.8))


def explained_study() -> Study:
    crp = Observation("crp", "1988-5", 120.0, 12.0, "mg/dL")
    image = Image(np.full((40, 60), 30000, np.uint16), "ab" * 32, "png")
    note = Note(NoteKind.HISTORY, TEXT, datetime(2024, 1, 2))
    return Study(images=(image,), notes=(note,), observations=(crp,), patient=Patient(36, Sex.FEMALE))


def explanation() -> Explanation:
    findings = [Finding("a", "Alpha"), Finding("b", "Beta")]
    results = tuple(
        FindingResult(f, p, p > 0.3, POINT, {Modality.IMAGE: 0.6, Modality.TEXT: 0.2})
        for f, p in zip(findings, (0.12, 0.71), strict=True)
    )
    identity = ModelIdentity("consilium-x", "3", "cd" * 32)
    diagnosis = Diagnosis(
        results, False, (Modality.IMAGE, Modality.TEXT), identity, {"images[0]": "ab" * 32}, ("view position unknown",)
    )
    saliency = ImageSaliency(0, np.linspace(-1, 1, 2400, dtype=np.float32).reshape(40, 60), (16, 16))
    explained = tuple(
        FindingExplanation(
            finding=f,
            log_odds=0.5,
            prior_log_odds=-1.0,
            modalities={Modality.IMAGE: 1.0, Modality.TEXT: 0.5},
            images=(saliency,),
            words=(WordWeight(0, 0, 5, "fever", 0.8), WordWeight(0, 34, 39, "cough", -0.4)),
            observations=(ObservationWeight("crp", "C-reactive protein", "12", "mg/dL", 0.9),),
            methods={"image": "gradient_x_activation"},
        )
        for f in findings
    )
    return Explanation(diagnosis, explained)
