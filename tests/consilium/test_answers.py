from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from consilium.answers import read_explanation
from consilium.diagnosis import Explanation, ImageSaliency
from consilium.schemas import ExplanationAnswer
from service.engine import _explanation_answer
from tests.consilium.tiny_answer import explanation


def _answered(explanation: Explanation) -> Explanation:
    """Through the service's answer, as text, and back."""
    text = _explanation_answer(explanation, "worklist-1").model_dump_json()
    return read_explanation(ExplanationAnswer.model_validate_json(text))


def test_an_answer_says_what_the_service_said() -> None:
    said = explanation()
    heard = _answered(said)
    assert heard.diagnosis == said.diagnosis
    before, after = (json.loads(json.dumps(one.to_json())) for one in (said, heard))
    for one in [*before["explanations"], *after["explanations"]]:
        del one["images"]  # in steps, below
    assert after == before


def test_saliency_comes_back_in_the_steps_of_its_picture() -> None:
    said = explanation()
    values = said.findings[0].images[0].values.copy()
    values[:, :7] = np.nan
    partial = ImageSaliency(0, values, (16, 16))
    heard = _answered(replace(said, findings=(replace(said.findings[0], images=(partial,)),)))
    (saliency,) = heard.findings[0].images
    assert saliency.cells == (16, 16)
    assert (np.isnan(saliency.values) == np.isnan(values)).all()
    step = float(np.nanmax(np.abs(values))) / 127
    assert saliency.values == pytest.approx(values, abs=step / 2 + 1e-6, nan_ok=True)
