"""An explanation goes to a caller and comes back."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

from consilium.api.explanations import explanation_answer, explanation_json, read_explanation
from consilium.api.schemas import DiagnosisAnswer, ExplanationAnswer
from consilium.domain.diagnosis import Diagnosis, Explanation
from consilium.modalities.image.presentation import CellGrid, ImageSaliency
from service.audit_log.entries import Draft, Endpoint, Origin
from tests.consilium.tiny_answer import eventful_explanation, explanation


def _answered(explanation: Explanation) -> Explanation:
    """Through the service's answer, as text, and back."""
    draft = Draft(Endpoint.EXPLAIN, Origin("key:a", "request-1"), "worklist-1")
    text = explanation_answer(explanation, **draft.service_fields()).model_dump_json()
    return read_explanation(ExplanationAnswer.model_validate_json(text))


def _without_images(explanation: Explanation) -> Any:
    found = explanation_json(explanation)
    for one in found["explanations"]:
        del one["parts"]["image"]  # in steps, below
    return found


@pytest.mark.parametrize("given", [explanation(), eventful_explanation()], ids=["ordinary", "eventful"])
def test_an_explanation_comes_back_as_it_was_sent(given: Explanation) -> None:
    received = _answered(given)
    assert received.diagnosis == given.diagnosis
    assert received.neighbours == given.neighbours
    assert _without_images(received) == _without_images(given)
    for own, other in zip(given.findings, received.findings, strict=True):
        assert {m: other.parts[m] for m in ("text", "observations")} == {
            m: own.parts[m] for m in ("text", "observations")
        }


def test_a_diagnosis_alone_comes_back_too() -> None:
    given = eventful_explanation().diagnosis
    text = DiagnosisAnswer(**dict(given)).model_dump_json()
    received = DiagnosisAnswer.model_validate_json(text)
    assert {name: getattr(received, name) for name in Diagnosis.model_fields} == dict(given)


def _stands(value: Any, seen: dict[str, list[bool]]) -> None:
    """Note of every field with a default within `value` whether it stands at it."""
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            own = getattr(value, field.name)
            if field.default is not MISSING:
                seen.setdefault(f"{type(value).__name__}.{field.name}", []).append(own == field.default)
            _stands(own, seen)
    elif isinstance(value, BaseModel):
        for _, own in value:
            _stands(own, seen)
    elif isinstance(value, (tuple, dict)):
        for own in value.values() if isinstance(value, dict) else value:
            _stands(own, seen)


def test_the_round_trip_would_miss_any_field_with_a_default() -> None:
    seen: dict[str, list[bool]] = {}
    _stands(eventful_explanation(), seen)
    assert {"AuditVerdict.verdict", "ObservationWeight.aspect"} <= set(seen)
    assert [name for name, defaults in seen.items() if all(defaults)] == []


def test_the_answer_adds_to_a_diagnosis_only_what_the_service_knows() -> None:
    own = {"caller_reference", "result_id"}
    assert set(DiagnosisAnswer.model_fields) == {*Diagnosis.model_fields, *own}
    assert set(ExplanationAnswer.model_fields) == {*explanation_json(explanation()), *own}


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({"parts": {"sound": []}}, "sound"),
        ({"parts": {"text": [{"note": 0}]}}, "start"),
        ({"unimodal": {}}, "unimodal"),
        ({"log_odds": float("nan")}, "log_odds"),
    ],
)
def test_an_answer_with_other_keys_or_values_is_refused(change: dict[str, Any], refused: str) -> None:
    answer = explanation_answer(explanation()).model_dump()
    answer["explanations"] = [dict(answer["explanations"][0]) | change]
    with pytest.raises(ValidationError, match=refused):
        ExplanationAnswer.model_validate(answer)


def test_an_explanation_without_pictures_names_the_peak_alone() -> None:
    (saliency,) = explanation_json(explanation())["explanations"][0]["parts"]["image"]
    assert saliency == {
        "image": 0,
        "cells": [16, 16],
        "peak": {"row": 39, "column": 59, "value": 1.0},
        "overlay": None,
        "map": None,
    }
    with pytest.raises(ValueError, match="without its overlay"):
        read_explanation(ExplanationAnswer.model_validate(explanation_json(explanation())))


def test_saliency_comes_back_in_the_steps_of_its_picture() -> None:
    given = explanation()
    values = given.findings[0].parts["image"][0].values.copy()
    values[:, :7] = np.nan
    partial = ImageSaliency(0, values, (16, 16))
    received = _answered(replace(given, findings=(replace(given.findings[0], parts={"image": (partial,)}),)))
    (saliency,) = received.findings[0].parts["image"]
    assert saliency.cells == (16, 16)
    assert (np.isnan(saliency.values) == np.isnan(values)).all()
    step = float(np.nanmax(np.abs(values))) / 127
    assert saliency.values == pytest.approx(values, abs=step / 2 + 1e-6, nan_ok=True)


def test_maps_as_cells_have_one_scale_for_all_findings_and_come_back_over_the_image() -> None:
    given = explanation()
    strong = CellGrid(np.full((2, 2), -8.0, np.float32), (0.0, 0.0, 40.0, 60.0))
    first, *others = given.findings
    stronger = replace(first, parts=first.parts | {"image": (replace(first.parts["image"][0], weighed=strong),)})
    answer = explanation_answer(replace(given, findings=(stronger, *others)), "cells")
    sent = [one.parts["image"][0] for one in answer.explanations]
    assert [one.overlay for one in sent] == [None] * len(sent)
    assert {one.map.scale for one in sent} == {8.0}
    assert (sent[1].map.rows, sent[1].map.columns, sent[1].map.box) == (16, 16, (-10.0, 0.0, 60.0, 60.0))
    assert (sent[1].map.image_rows, sent[1].map.image_columns) == (40, 60)
    received = read_explanation(ExplanationAnswer.model_validate_json(answer.model_dump_json()))
    cells = received.findings[1].parts["image"][0]
    np.testing.assert_array_equal(cells.weighed.values, given.findings[1].parts["image"][0].weighed.values)
    assert cells.values.shape == (40, 60)
    assert np.allclose(received.findings[0].parts["image"][0].values, -8.0)
