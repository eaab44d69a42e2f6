"""What a version must be by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from consilium.domain.diagnosis import AuditVerdict
from consilium.modalities.weight_source import NOT_STATED, WeightSource
from tests.consilium.tiny import tiny_recipe
from training.evaluation.out_of_distribution import ORDINARY
from training.lifecycle import own_gates as gates
from training.lifecycle.gate_file import (
    AuditGate,
    CalibrationGate,
    CoverageGate,
    FaithfulnessGate,
    LicenceGate,
    OutOfDistributionGate,
    SizeGate,
)
from training.lifecycle.gate_results import GateResult, Outcome
from training.pipeline.compare_models import Answers


def _answers(probabilities: np.ndarray, labels: np.ndarray) -> Answers:
    names = np.array([f"S{number}" for number in range(len(labels))])
    return Answers(("effusion",), names, names, labels[:, None].astype(float), probabilities[:, None])


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels that were drawn by them."""
    rng = np.random.default_rng(5)
    probabilities = expit(rng.normal(-0.5, 1.5, 3000))
    return probabilities, rng.random(3000) < probabilities


def _outcomes(found: list[GateResult]) -> dict[str, Outcome]:
    return {one.gate: one.outcome for one in found}


def test_right_probabilities_pass_and_overconfident_ones_do_not(drawn):
    right, labels = drawn
    assert set(_outcomes(gates.calibration_gates(CalibrationGate(), _answers(right, labels))).values()) == {
        Outcome.PASSED
    }
    bold = expit(3 * logit(right))
    found = gates.calibration_gates(CalibrationGate(), _answers(bold, labels))
    assert set(_outcomes(found).values()) == {Outcome.FAILED}
    assert found[1].figures["effusion"] == pytest.approx(1 / 3, abs=0.03)


def test_the_slopes_error_is_that_of_fresh_samples():
    rng = np.random.default_rng(1)
    slopes = []
    for _ in range(200):
        probabilities = expit(rng.normal(0, 1, 400))
        slopes.append(gates.calibration_slope(rng.random(400) < probabilities, probabilities))
    values, errors = np.array(slopes).T
    assert values.mean() == pytest.approx(1, abs=0.05)
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.15)


def test_a_slope_that_cannot_be_known_shows_nothing():
    positive = np.array([True] * 20 + [False] * 20)
    for labels, probabilities in ((positive, np.where(positive, 0.9, 0.1)), (np.ones(5, bool), np.full(5, 0.5))):
        assert gates.calibration_slope(labels, probabilities)[1] > 10
    found = gates.calibration_gates(
        CalibrationGate(ece_above_chance=1), _answers(np.where(positive, 0.9, 0.1), positive)
    )
    assert found[1].outcome is Outcome.PASSED


def _coverage(outside: int) -> dict[str, pd.DataFrame]:
    lines = [{"subset": "as_present", "in_band": number >= outside} for number in range(8)]
    return {
        "coverage": pd.DataFrame(
            [*lines, {"subset": "image", "in_band": False}, {"subset": "as_present", "in_band": None}]
        )
    }


def test_so_many_coverages_outside_of_their_bands_as_chance_leaves_there_pass():
    # Of 8, more than 2 lie outside with a chance of .6 %.
    assert gates.coverage_gate(CoverageGate(), _coverage(2)).outcome is Outcome.PASSED
    failed = gates.coverage_gate(CoverageGate(), _coverage(3))
    assert failed.outcome is Outcome.FAILED
    assert failed.measured == "3 of 8 outside of their bands"


def test_a_cohort_that_was_not_audited_or_is_suspect_fails():
    assert gates.audit_gate(AuditGate(), AuditVerdict("sound")).outcome is Outcome.PASSED
    for verdict in (AuditVerdict("suspect", ("x",)), AuditVerdict()):
        assert gates.audit_gate(AuditGate(), verdict).outcome is Outcome.FAILED
    assert gates.audit_gate(AuditGate(verdicts=("sound", "suspect")), AuditVerdict("suspect")).outcome is Outcome.PASSED


def _unusual(auroc: float, flagged: float) -> dict[str, pd.DataFrame]:
    lines = [
        {"kind": "noise", "part": "image", "distance": "far", "n": 200, "auroc": auroc, "flagged": 0.9},
        {"kind": "noise", "part": "fused", "distance": "far", "n": 200, "auroc": 0.1, "flagged": 0.9},
        {"kind": "blur", "part": "image", "distance": "near", "n": 200, "auroc": 0.5, "flagged": 0.1},
        {"kind": ORDINARY, "part": "image", "distance": ORDINARY, "n": 200, "auroc": np.nan, "flagged": flagged},
    ]
    return {"out_of_distribution": pd.DataFrame(lines)}


@pytest.mark.parametrize(("auroc", "flagged", "passes"), [(0.95, 0.02, True), (0.7, 0.02, False), (0.95, 0.2, False)])
def test_far_inputs_must_be_noticed_and_ordinary_ones_left_alone(auroc: float, flagged: float, passes: bool):
    found = gates.out_of_distribution_gate(OutOfDistributionGate(), _unusual(auroc, flagged), tiny_recipe())
    assert (found.outcome is Outcome.PASSED) is passes


def test_what_was_not_measured_fails_where_it_is_required():
    demanded = OutOfDistributionGate(), {}, tiny_recipe()
    assert gates.out_of_distribution_gate(*demanded).outcome is Outcome.FAILED
    assert gates.faithfulness_gate(FaithfulnessGate(), {}).outcome is Outcome.FAILED
    assert gates.faithfulness_gate(FaithfulnessGate(required=False), {}).outcome is Outcome.NOT_APPLICABLE


def _explained(sanity_high: float) -> dict[str, pd.DataFrame]:
    figures = {"sanity": (0.1, 0.0, sanity_high), "deletion": (0.3, 0.2, 0.4)}
    lines = [
        {"part": "text", "method": "gradient_x_embedding", "finding": "macro", "metric": name, "rank": 1.0, "n": 50}
        | dict(zip(("value", "low", "high"), values, strict=True))
        for name, values in figures.items()
    ]
    return {"faithfulness": pd.DataFrame(lines)}


def test_an_explanation_that_an_untrained_model_gives_too_is_none():
    known = gates.best_methods(_explained(0.2)["faithfulness"], "fast")
    assert known, "the table is of a fast method"
    assert gates.faithfulness_gate(FaithfulnessGate(), _explained(0.2)).outcome is Outcome.PASSED
    failed = gates.faithfulness_gate(FaithfulnessGate(), _explained(0.9))
    assert failed.outcome is Outcome.FAILED
    assert failed.measured == "text: none"


def test_an_artifact_may_be_too_large(tmp_path: Path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "weights").write_bytes(bytes(1_500_000))
    assert gates.size_gate(SizeGate(artifact_mb=2), tmp_path).outcome is Outcome.PASSED
    assert gates.size_gate(SizeGate(artifact_mb=1), tmp_path).measured == "1.5 MB"
    assert gates.size_gate(SizeGate(artifact_mb=1), tmp_path).outcome is Outcome.FAILED


def test_licences_must_be_stated_or_allowed():
    def source(licence: str) -> dict[str, list[WeightSource]]:
        return {"image": [WeightSource(architecture="vit", source="hub/vit", sha256="0" * 64, licence=licence)]}

    assert gates.licence_gate(LicenceGate(), {}).outcome is Outcome.NOT_APPLICABLE
    assert gates.licence_gate(LicenceGate(), source("MIT")).outcome is Outcome.PASSED
    assert gates.licence_gate(LicenceGate(), source(NOT_STATED)).outcome is Outcome.FAILED
    assert gates.licence_gate(LicenceGate(allowed=("mit",)), source("MIT")).outcome is Outcome.PASSED
    refused = gates.licence_gate(LicenceGate(allowed=("Apache-2.0",)), source("MIT"))
    assert refused.measured == "hub/vit: MIT"
    assert refused.outcome is Outcome.FAILED
