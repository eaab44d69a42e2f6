"""Explanations on their way to a caller and back: each modality writes and reads its own part."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from consilium.api.schemas.answers import ExplanationAnswer, FindingExplanationAnswer
from consilium.domain.diagnosis import Diagnosis, Explanation, FindingExplanation
from consilium.modalities.presentation import Maps, Sending, presentations

_FINDINGS = TypeAdapter(tuple[FindingExplanationAnswer, ...])


def explanation_answer(explanation: Explanation, maps: Maps = "pictures", **service: Any) -> ExplanationAnswer:
    """The answer that the service sends; `service` is what only the service knows of it."""
    return ExplanationAnswer(
        **dict(explanation.diagnosis),
        explanations=_written(explanation, maps),
        neighbours=explanation.neighbours,
        **service,
    )


def explanation_json(explanation: Explanation) -> dict[str, Any]:
    """The answer as JSON's types, without pictures and without what only a service knows."""
    return explanation.diagnosis.to_json() | {
        "explanations": _FINDINGS.dump_python(_written(explanation, "none"), mode="json"),
        "neighbours": [neighbour.to_json() for neighbour in explanation.neighbours],
    }


def read_explanation(answer: ExplanationAnswer) -> Explanation:
    """What the service sent, so that a caller can print it and make a report; saliency as it was sent."""
    findings = []
    for one in answer.explanations:
        declared = presentations(one.parts)
        parts = {m: tuple(declared[m].read(sent) for sent in part) for m, part in one.parts.items()}
        findings.append(FindingExplanation(**_fields(one) | {"parts": parts}))
    return Explanation(_plain(answer), tuple(findings), answer.neighbours)


def _plain(diagnosis: Diagnosis) -> Diagnosis:
    """Without what only a service knows."""
    return Diagnosis(**{name: getattr(diagnosis, name) for name in Diagnosis.model_fields})


def _written(explanation: Explanation, maps: Maps) -> tuple[FindingExplanationAnswer, ...]:
    found = []
    explained = {m for one in explanation.findings for m in one.parts}
    sending = {m: Sending(maps, [one.parts.get(m, ()) for one in explanation.findings]) for m in explained}
    for one in explanation.findings:
        declared = presentations(one.parts)
        parts = {m: tuple(declared[m].write(own, sending[m]) for own in part) for m, part in one.parts.items()}
        found.append(FindingExplanationAnswer(**_fields(one) | {"parts": parts}))
    return tuple(found)


def _fields(finding: FindingExplanation) -> dict[str, Any]:
    return {name: getattr(finding, name) for name in FindingExplanation.__dataclass_fields__}
