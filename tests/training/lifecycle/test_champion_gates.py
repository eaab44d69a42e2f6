"""A version beside the champion."""

from __future__ import annotations

import numpy as np
import pytest

from training.lifecycle.champion_gates import _not_inferior, auroc_difference, subgroup_gate
from training.lifecycle.gate_file import Gates, SubgroupGate
from training.lifecycle.gate_results import Outcome
from training.lifecycle.looks import Look
from training.pipeline.compare_models import Answers

GATES = Gates.model_validate({"bootstrap": 200, "champion": {}})


def _answers(probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> Answers:
    names = np.array([f"S{number}" for number in range(len(labels))])
    kinds = {} if groups is None else {"sex": groups}
    return Answers(("effusion", "nodule"), names, names, labels, probabilities, kinds)


def _pair(seed: int, studies: int, worse_by: float) -> tuple[Answers, Answers]:
    """A candidate with so much more noise than the champion."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((studies, 2)) < 0.4).astype(float)
    shared = labels + rng.normal(0, 0.7, labels.shape)
    champion = shared + rng.normal(0, 0.3, labels.shape)
    candidate = shared + rng.normal(0, 0.3 + worse_by, labels.shape)
    squash = lambda scores: 1 / (1 + np.exp(-scores))  # noqa: E731
    return _answers(squash(candidate), labels), _answers(squash(champion), labels)


def test_a_version_as_good_passes_and_a_worse_one_does_not():
    passed = _not_inferior("x", *_pair(1, 800, 0.0), 0.05, Look(1, 0.01), GATES, 7)
    assert passed.outcome is Outcome.PASSED
    failed = _not_inferior("x", *_pair(1, 800, 1.0), 0.05, Look(1, 0.01), GATES, 7)
    assert failed.outcome is Outcome.FAILED
    assert failed.figures["low"] < -0.05


def test_a_smaller_share_of_alpha_asks_for_more():
    first, last = (_not_inferior("x", *_pair(1, 300, 0.0), 0.05, Look(1, a), GATES, 7) for a in (0.05, 0.0001))
    assert first.figures["low"] > last.figures["low"]
    used_up = _not_inferior("x", *_pair(1, 300, 0.0), 0.05, Look(21, 0.0), GATES, 7)
    assert used_up.outcome is Outcome.FAILED
    assert "used up" in used_up.measured


def test_a_version_that_is_worse_by_the_margin_passes_no_oftener_than_alpha():
    # Of this noise the AUROC falls from Φ(1 / √1.16) = .8234 to Φ(1 / √2.26) = .7470.
    margin, alpha, trials = 0.0764, 0.1, 120
    few = GATES.model_copy(update={"bootstrap": 100})
    passed = [
        _not_inferior("x", *_pair(seed, 150, 0.5), margin, Look(1, alpha), few, seed).outcome is Outcome.PASSED
        for seed in range(trials)
    ]
    assert np.mean(passed) < alpha + 3 * np.sqrt(alpha * (1 - alpha) / trials)
    assert any(passed)


def test_the_difference_is_the_mean_over_findings():
    first, second = _pair(2, 300, 0.5)
    each = [auroc_difference(first, second, [f], bootstrap=50, seed=1).value for f in (0, 1)]
    assert auroc_difference(first, second, bootstrap=50, seed=1).value == pytest.approx(np.mean(each))


def test_the_group_that_is_served_worse_is_named():
    first, second = _pair(3, 900, 0.0)
    groups = np.where(np.arange(900) % 3 == 0, "female", "male")
    spoiled = first.probabilities.copy()
    hit = groups == "female"
    spoiled[hit, 0] = np.random.default_rng(0).permutation(spoiled[hit, 0])
    fair = _answers(first.probabilities, first.labels, groups)
    assert subgroup_gate(SubgroupGate(), fair, second, bootstrap=100, seed=1).outcome is Outcome.PASSED
    unfair = subgroup_gate(SubgroupGate(), _answers(spoiled, first.labels, groups), second, bootstrap=100, seed=1)
    assert unfair.outcome is Outcome.FAILED
    assert "effusion, sex female" in unfair.measured
    assert "male by" not in unfair.measured.replace("female by", "")


def test_small_groups_are_counted_and_answers_without_groups_are_told():
    first, second = _pair(4, 24, 0.0)
    groups = np.array(["one", "two"] * 12)
    found = subgroup_gate(
        SubgroupGate(), _answers(first.probabilities, first.labels, groups), second, bootstrap=20, seed=1
    )
    assert found.outcome is Outcome.NOT_APPLICABLE
    assert "all 4 groups are too small" in found.measured
    assert subgroup_gate(SubgroupGate(), first, second, bootstrap=20, seed=1).outcome is Outcome.FAILED
