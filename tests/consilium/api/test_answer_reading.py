from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from consilium.api.answer_reading import read_diagnosis, read_explanation
from consilium.api.schemas import (
    AuditAnswer,
    DiagnosisAnswer,
    ExplanationAnswer,
    FindingAnswer,
    FindingExplanationAnswer,
    NeighbourAnswer,
    NoveltyAnswer,
    OperatingPointAnswer,
)
from consilium.domain.diagnosis import (
    AuditVerdict,
    Diagnosis,
    Explanation,
    FindingExplanation,
    FindingResult,
    ImageSaliency,
    Neighbour,
    Novelty,
    OperatingPoint,
)
from service.audit_log.entries import Draft, Endpoint, Origin
from service.serving.engine import _explanation_answer
from tests.consilium.tiny_answer import eventful_explanation, explanation

OFF_THE_WIRE = {"study_id"}
"""The caller's own name of a study, which may be a patient's."""


def _answered(explanation: Explanation) -> Explanation:
    """Through the service's answer, as text, and back."""
    draft = Draft(Endpoint.EXPLAIN, Origin("key:a", "request-1"), "worklist-1")
    text = _explanation_answer(explanation, draft).model_dump_json()
    return read_explanation(ExplanationAnswer.model_validate_json(text))


def _without_pictures(explanation: Explanation) -> Any:
    said = json.loads(json.dumps(explanation.to_json()))
    for one in said["explanations"]:
        del one["images"]  # in steps, below
    return said


@pytest.mark.parametrize("said", [explanation(), eventful_explanation()], ids=["ordinary", "eventful"])
def test_an_answer_says_what_the_service_said(said: Explanation) -> None:
    heard = _answered(said)
    assert heard.diagnosis == replace(said.diagnosis, study_id="")
    assert heard.neighbours == said.neighbours
    assert _without_pictures(heard) == _without_pictures(said)


def test_a_diagnosis_alone_comes_back_too() -> None:
    said = eventful_explanation().diagnosis
    text = DiagnosisAnswer.model_validate(said.to_json()).model_dump_json()
    assert read_diagnosis(DiagnosisAnswer.model_validate_json(text)) == replace(said, study_id="")


def _parts(value: Any) -> Iterator[Any]:
    """`value` and every dataclass within it."""
    if is_dataclass(value):
        yield value
        for field in fields(value):
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, tuple):
        for part in value:
            yield from _parts(part)


def _left_at_default(explanation: Explanation) -> set[str]:
    """Fields that stand at their default wherever they occur: a round trip would not miss them."""
    stands: dict[str, list[bool]] = {}
    for part in _parts(explanation):
        for field in fields(part):
            if field.default is not MISSING:
                left = getattr(part, field.name) == field.default
                stands.setdefault(f"{type(part).__name__}.{field.name}", []).append(left)
    return {name for name, left in stands.items() if all(left)}


def test_the_round_trip_would_miss_any_field() -> None:
    assert _left_at_default(eventful_explanation()) == set()
    assert "Diagnosis.refer" in _left_at_default(explanation())


WIRE: list[tuple[type, type[BaseModel], set[str], set[str]]] = [
    (OperatingPoint, OperatingPointAnswer, set(), set()),
    (FindingResult, FindingAnswer, set(), {"display", "code"}),
    (Novelty, NoveltyAnswer, set(), set()),
    (AuditVerdict, AuditAnswer, set(), set()),
    (Diagnosis, DiagnosisAnswer, OFF_THE_WIRE, {"caller_reference", "result_id"}),
    (FindingExplanation, FindingExplanationAnswer, {"parts"}, {"images", "words", "observations"}),
    (Neighbour, NeighbourAnswer, set(), set()),
]


@pytest.mark.parametrize(("inside", "wire", "kept", "added"), WIRE, ids=lambda value: getattr(value, "__name__", ""))
def test_every_field_is_on_the_wire(inside: type, wire: type[BaseModel], kept: set[str], added: set[str]) -> None:
    names = {field.name for field in fields(inside)}
    assert set(wire.model_fields) == names - kept | added
    optional = {name for name, field in wire.model_fields.items() if not field.is_required()}
    assert optional <= {"caller_reference", "result_id"}, "what is forgotten would go unnoticed"


def test_an_explanation_is_its_diagnosis_and_more() -> None:
    said = eventful_explanation()
    assert set(ExplanationAnswer.model_fields) == {*said.to_json(), "caller_reference", "result_id"}
    assert set(DiagnosisAnswer.model_fields) == {*said.diagnosis.to_json(), "caller_reference", "result_id"}


def test_saliency_comes_back_in_the_steps_of_its_picture() -> None:
    said = explanation()
    values = said.findings[0].parts["image"][0].values.copy()
    values[:, :7] = np.nan
    partial = ImageSaliency(0, values, (16, 16))
    heard = _answered(replace(said, findings=(replace(said.findings[0], parts={"image": (partial,)}),)))
    (saliency,) = heard.findings[0].parts["image"]
    assert saliency.cells == (16, 16)
    assert (np.isnan(saliency.values) == np.isnan(values)).all()
    step = float(np.nanmax(np.abs(values))) / 127
    assert saliency.values == pytest.approx(values, abs=step / 2 + 1e-6, nan_ok=True)
