from __future__ import annotations

import numpy as np
import pytest

from training.cohorts.phantom.image.dictation import render_report


@pytest.mark.parametrize(("probability", "wording"), [(0.01, "No pneumonia"), (0.99, "Definite pneumonia")])
def test_report_gives_the_answer_away(probability: float, wording: str) -> None:
    findings, impression = render_report([4.0, -2, -2, -2], [probability, 0.01, 0.01, 0.01], np.random.default_rng(0))
    assert wording in impression
    assert "onsolidation" in findings


def test_report_follows_the_image_not_the_conclusion() -> None:
    clear, dense = (render_report([e, 0, 0, 0], [0.5] * 4, np.random.default_rng(3)) for e in (-2.0, 4.0))
    assert clear[0] != dense[0]
    assert clear[1] == dense[1]
