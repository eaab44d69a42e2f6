"""A study with its explanation, made without a model, that tests share."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from consilium.domain.diagnosis import (
    ABSENT,
    PRESENT,
    AuditVerdict,
    Diagnosis,
    Estimate,
    Explanation,
    FindingExplanation,
    FindingResult,
    GradeProbability,
    GradeResult,
    ModelIdentity,
    Neighbour,
    OperatingPoint,
    OutOfDistributionScore,
    SurvivalProbability,
    SurvivalResult,
)
from consilium.domain.findings import Finding
from consilium.domain.study import Patient, Sex, Study
from consilium.modalities.image.image_record import Image
from consilium.modalities.image.presentation import CellGrid, ImageSaliency
from consilium.modalities.observations.observation import Observation
from consilium.modalities.observations.presentation import ObservationWeight, Reference
from consilium.modalities.text.note import Note, NoteKind
from consilium.modalities.text.presentation import WordWeight

TEXT = "fever <script>alert(1)</script> & cough"
POINT = OperatingPoint(0.3, 0.9, Estimate(0.9, 0.8, 0.95), Estimate(0.7, 0.6, 0.8))
SUSPECT = AuditVerdict("suspect", ("The file format tells Alpha apart: AUROC .91.",))
REFER = ("The image is unlike the training data.", "There is no note, which this model requires.")
UNDETERMINED = "Undetermined: neither answer can be ruled out at 90% coverage."
SCORES = (
    OutOfDistributionScore("image", 14.5, 0.002, out_of_distribution=True),
    OutOfDistributionScore("text", 2.5, 0.04, out_of_distribution=False),
    OutOfDistributionScore("fused", 1.25, 0.64, out_of_distribution=False),
)
GRADES = (
    GradeResult("severity", "Severity", "mild", 0.9, (GradeProbability("none", 0.3), GradeProbability("mild", 0.7))),
)
SURVIVAL = (
    SurvivalResult("death", "Death", "days", (SurvivalProbability(30.0, 0.97), SurvivalProbability(365.0, 0.81))),
)
NEIGHBOURS = (
    Neighbour("b7d1c90f", 0.94, {"a": False, "b": True}, ("image", "text")),
    Neighbour("04ae77d2", 0.88, {"a": None, "b": True}, ("image",)),
)

CRP = Reference(120.0, 0.0, 5.0, "mg/L", log_scale=True)


def explained_study() -> Study:
    crp = Observation("crp", "1988-5", 120.0, 12.0, "mg/dL")
    image = Image(np.full((40, 60), 30000, np.uint16), "ab" * 32, "png")
    note = Note(NoteKind.HISTORY, TEXT, datetime(2024, 1, 2, tzinfo=UTC))
    return Study({"image": (image,), "text": (note,), "observations": (crp,)}, patient=Patient(36, Sex.FEMALE))


def explanation(**diagnosis: Any) -> Explanation:
    """An ordinary answer: sound, ordinary, not referred; `diagnosis` replaces fields of its Diagnosis."""
    findings = [Finding("a", "Alpha", "233604007"), Finding("b", "Beta")]
    answers: Any = zip(findings, (0.12, 0.71), ((0.05, 0.2), (0.62, 0.83)), ((ABSENT,), (PRESENT,)), strict=True)
    results = tuple(
        FindingResult(
            *(f.name, f.display, f.code),
            probability=p,
            call=p > 0.3,
            operating_point=POINT,
            unimodal_probabilities={"image": 0.6, "text": 0.2},
            interval=interval,
            prediction_set=prediction_set,
            refer_reasons=(),
        )
        for f, p, interval, prediction_set in answers
    )
    ordinary = Diagnosis(
        findings=results,
        exclusive=False,
        modalities=("image", "text"),
        absent=("observations",),
        model=ModelIdentity("consilium-x", "3", "cd" * 32),
        input_digests={"images[0]": "ab" * 32},
        warnings=("view position unknown",),
        out_of_distribution=tuple(replace(part, p_value=0.5, out_of_distribution=False) for part in SCORES),
        refer_reasons=(),
        audit=AuditVerdict("sound"),
    )
    explained = tuple(_explained(finding) for finding in findings)
    return Explanation(ordinary.model_copy(update=diagnosis), explained, NEIGHBOURS)


def open_explanation() -> Explanation:
    """A study that is not referred, but for Beta, whose answer is undetermined."""
    alpha, beta = explanation().diagnosis.findings
    unsure = replace(beta, interval=(0.4, 0.9), prediction_set=(ABSENT, PRESENT), refer_reasons=(UNDETERMINED,))
    return explanation(findings=(alpha, unsure))


def eventful_explanation() -> Explanation:
    """Referred, out of distribution, from a suspect cohort: no field stands at its default everywhere."""
    alpha, unsure = open_explanation().diagnosis.findings
    unlike = replace(alpha, prediction_set=())
    return explanation(
        findings=(unlike, unsure),
        exclusive=True,
        out_of_distribution=SCORES,
        refer_reasons=REFER,
        audit=SUSPECT,
        grades=GRADES,
        survival=SURVIVAL,
    )


def _explained(finding: Finding) -> FindingExplanation:
    cells = CellGrid(np.linspace(-1, 1, 256, dtype=np.float32).reshape(16, 16), (-10.0, 0.0, 60.0, 60.0))
    saliency = ImageSaliency(0, np.linspace(-1, 1, 2400, dtype=np.float32).reshape(40, 60), (16, 16), cells)
    return FindingExplanation(
        finding=finding.name,
        display=finding.display,
        log_odds=0.5,
        prior_log_odds=-1.0,
        modalities={"image": 1.0, "text": 0.5},
        methods={"image": "gradient_x_activation"},
        parts={
            "image": (saliency,),
            "text": (WordWeight(0, 0, 5, "fever", 0.8, 0, 5), WordWeight(0, 34, 39, "cough", -0.4, 35, 40)),
            "observations": (
                ObservationWeight("crp", "C-reactive protein", "12", "mg/dL", 0.9, "value", CRP),
                ObservationWeight("crp", "C-reactive protein, change per day", "+40", "mg/L", -0.2, "change"),
            ),
        },
    )
