"""Made-up answers of a model whose probabilities are right, in a stream, and the reference they are held against."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
from scipy.special import expit

from consilium.domain.diagnosis import Estimate, ModelIdentity, OperatingPoint
from consilium.domain.findings import Finding, FindingSet
from consilium.monitoring.monitored_answer import ConfirmedOutcome, MonitoredAnswer
from consilium.monitoring.reference import HeldOut, MonitoringReference
from training.monitoring.answers import AnswerTable, Layout
from training.monitoring.monitor import WatchedModel

FINDINGS = ("pneumonia", "effusion")
PARTS = ("image", "text", "fused")
POINT = OperatingPoint(
    threshold=0.3,
    target_sensitivity=0.7,
    sensitivity=Estimate(value=0.7, low=0.6, high=0.8),
    specificity=Estimate(value=0.65, low=0.55, high=0.75),
)
MONDAY = datetime(2026, 6, 1, tzinfo=UTC)


def probabilities(rng: np.random.Generator, count: int) -> np.ndarray:
    return expit(rng.normal(-1, 1, (count, len(FINDINGS))))


def _features(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    return {part: rng.normal(size=(count, 12)) for part in PARTS}


def _features_for(reference: MonitoringReference, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    return {part: rng.normal(size=(count, len(one.weights))) for part, one in reference.projections.items()}


def _categories(rng: np.random.Generator, count: int) -> list[dict[str, str]]:
    sexes, texts = rng.choice(["female", "male"], count), rng.choice(["yes", "no"], count, p=[0.9, 0.1])
    return [
        {"sex": sex, "present:image": "yes", "present:text": text}
        for sex, text in zip(sexes.tolist(), texts.tolist(), strict=True)
    ]


def made_reference(seed: int = 0, held_out: int = 2000) -> MonitoringReference:
    rng = np.random.default_rng(seed)
    others = HeldOut(_features(rng, held_out), probabilities(rng, held_out), _categories(rng, held_out))
    return MonitoringReference.fit(_features(rng, 500), probabilities(rng, 500), others, FINDINGS, seed)


def made_model(reference: MonitoringReference) -> WatchedModel:
    return WatchedModel(
        ModelIdentity(name="consilium-made", version="3", manifest_digest="ab" * 32),
        FindingSet((Finding("pneumonia", "Pneumonia"), Finding("effusion", "Pleural effusion"))),
        dict.fromkeys(FINDINGS, POINT),
        dict.fromkeys(FINDINGS, 0.31),
        reference,
    )


def made_answers(
    reference: MonitoringReference, days: int, *, seed: int = 1, a_day: int = 100, confirmed: float = 0.5
) -> list[MonitoredAnswer]:
    rng = np.random.default_rng(seed)
    count = days * a_day
    p = probabilities(rng, count)
    directions = reference.project(_features_for(reference, rng, count))
    findings = tuple(reference.log_odds)
    there, texts = rng.random((count, 2)) < p, rng.random(count) < 0.9
    unusual = dict(zip(reference.projections, rng.random((len(reference.projections), count)), strict=True))
    answers = []
    for row, categories in enumerate(_categories(rng, count)):
        time = MONDAY + timedelta(days=(row + float(rng.random())) / a_day)
        parts = [part for part in reference.projections if part != "text" or texts[row]]
        known = rng.random() < confirmed
        outcomes = [
            ConfirmedOutcome(name, "present" if truth else "absent", time + timedelta(days=2), "import", None)
            for name, truth in zip(findings, there[row].tolist(), strict=True)
            if known
        ]
        answers.append(
            MonitoredAnswer(
                result_id=UUID(int=int(rng.integers(2**62)), version=4),
                time=time,
                role="serving",
                model_name="consilium-made",
                model_version="3",
                manifest_digest="ab" * 32,
                probabilities=dict(zip(findings, p[row].tolist(), strict=True)),
                prediction_sets=dict.fromkeys(findings, ("absent", "present")),
                referred=bool(rng.random() < 0.1),
                present=frozenset(part for part in parts if part != "fused"),
                p_values={part: float(unusual[part][row]) for part in parts},
                projections={part: tuple(directions[part][row].tolist()) for part in parts},
                categories={"sex": categories["sex"], "site": "a1"},
                latency_ms=20.0,
                outcomes=tuple(outcomes),
            )
        )
    return answers


def made_table(reference: MonitoringReference, days: int, **options: float) -> AnswerTable:
    return AnswerTable.of(made_answers(reference, days, **options), Layout.of(reference))  # type: ignore[arg-type]


def moved(table: AnswerTable, part: str, by: float, since: int) -> AnswerTable:
    """With the features of `part` moved from answer `since` on."""
    rows = table.projections[part].copy()
    rows[since:] += by
    return replace(table, projections=table.projections | {part: rows})
