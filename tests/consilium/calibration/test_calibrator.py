from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit, softmax

from consilium.calibration import Calibrator, Scaling, fit_calibrator
from consilium.calibration.calibrator import log_odds
from consilium.calibration.curves import Curve
from consilium.calibration.scaling import Additive
from consilium.domain.errors import InputError
from consilium.domain.findings import FindingSet
from tests.consilium.calibration.simulated import CLASSES, FINDINGS, calibration_gap, simulate


def alike(findings: int) -> Scaling:
    """Logits of notes that are log-odds already."""
    ones, zeros = (1.0,) * findings, (0.0,) * findings
    additive = Additive({"none": ones, "text": zeros}, {"none": zeros, "text": zeros}, zeros)
    return Scaling({"text": ones}, {"text": zeros}, additive)


@pytest.mark.parametrize("method", ["isotonic", "venn_abers"])
@pytest.mark.parametrize("findings", [FINDINGS, CLASSES])
def test_curves_calibrate_what_scaling_cannot(findings: FindingSet, method: str) -> None:
    case, fresh = simulate(findings, 4000, 1, bent=1.8), simulate(findings, 20000, 2, bent=1.8)
    gaps: dict[str, list[float]] = {}
    for name in ("scaling", method):
        calibrator = fit_calibrator(name, findings, case["labels"], case["fused"], logit(case["prevalence"]))
        scores = calibrator(fresh["fused"]["text"], "text", exclusive=findings.exclusive)
        p = expit(log_odds(scores, exclusive=findings.exclusive))
        if findings.exclusive:
            assert np.allclose(p[~np.isnan(p[:, 0])].sum(axis=1), 1)
        gaps[name] = [calibration_gap(fresh["labels"][:, f], p[:, f]) for f in range(len(findings))]
    assert np.mean(gaps[method]) < np.mean(gaps["scaling"])
    assert max(gaps[method]) < 0.04


def test_vector_scaling_of_independent_findings_is_the_scaling() -> None:
    case = simulate(FINDINGS, 200, 1)
    vector, scaling = (
        fit_calibrator(name, FINDINGS, case["labels"], case["fused"], logit(case["prevalence"]))
        for name in ("vector", "scaling")
    )
    assert vector == scaling


def test_classes_bent_one_by_one_add_up_to_one() -> None:
    up, straight = Curve((0.0,), (1.0,)), Curve((0.0,), (0.0,))
    calibrator = Calibrator(alike(3), (up, up, straight))
    scores = calibrator(np.log([[0.5, 0.3, 0.2]]), "text", exclusive=True)
    raw = expit(np.array([logit(0.5) + 1, logit(0.3) + 1, logit(0.2)]))
    assert np.allclose(softmax(scores, axis=-1), raw / raw.sum())


def test_a_calibrator_that_is_none_is_refused() -> None:
    scaling = alike(2)
    Calibrator(scaling, (Curve((0.0,), (0.0,)),) * 2).require_sound("fused", 2)
    with pytest.raises(InputError, match="curves"):
        Calibrator(scaling, (Curve((0.0,), (0.0,)),)).require_sound("fused", 2)
    with pytest.raises(InputError, match="scaling"):
        Calibrator(replace(scaling, scale={"text": (1.0, -1.0)})).require_sound("fused", 2)
    with pytest.raises(InputError, match="same subsets"):
        Calibrator(replace(scaling, bias={"image": (0.0, 0.0)})).require_sound("fused", 2)
