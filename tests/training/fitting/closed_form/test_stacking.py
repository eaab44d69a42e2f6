"""The stack of the modalities' evidence."""

import numpy as np
import pytest
from scipy.special import logit

from training.fitting.closed_form.stacking import Stack


def evidence(studies=400, seed=0):
    """Independent calibrated log-odds of one finding by two modalities, and the labels."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((studies, 1)) < 0.5).astype(float)
    sign = 2 * labels - 1
    shift = {"weak": 1.0, "strong": 4.0}  # log-likelihood ratio of two normals that far apart has mean ±shift / 2
    return {name: sign * d / 2 + rng.normal(size=labels.shape) * np.sqrt(d) for name, d in shift.items()}, labels


def test_calibrated_independent_evidence_is_added_with_weights_near_one():
    found, labels = evidence(20000)
    stack = Stack.fit(found, labels, exclusive=False)
    assert stack.weights["weak"][0] == pytest.approx(1, abs=0.08)
    assert stack.weights["strong"][0] == pytest.approx(1, abs=0.08)
    assert stack.prior[0] == pytest.approx(logit(labels.mean()), abs=1e-3)


def test_misleading_evidence_gets_no_weight_and_never_one_below_zero():
    found, labels = evidence()
    stack = Stack.fit({**found, "weak": -found["weak"]}, labels, exclusive=False)
    assert stack.weights["weak"][0] == 0


def test_little_data_ends_near_the_mean_of_the_modalities():
    found, labels = evidence(4)
    weights = Stack.fit(found, labels, exclusive=False).weights
    assert [float(one[0]) for one in weights.values()] == pytest.approx([0.5, 0.5], abs=0.45)


def test_an_absent_modality_adds_nothing():
    found, labels = evidence()
    stack = Stack.fit(found, labels, exclusive=False)
    absent = np.full_like(labels, np.nan)
    assert stack({"weak": absent, "strong": found["strong"]}) == pytest.approx(stack({"strong": found["strong"]}))
    assert stack({"weak": absent, "strong": absent}) == pytest.approx(np.broadcast_to(stack.prior, labels.shape))


def test_exclusive_findings_share_one_weight_a_modality():
    rng = np.random.default_rng(0)
    labels = np.eye(3)[rng.integers(0, 3, 500)]
    found = {"right": labels * 2 + rng.normal(size=labels.shape), "noise": rng.normal(size=labels.shape)}
    weights = Stack.fit(found, labels, exclusive=True).weights
    assert all(len(set(one.tolist())) == 1 for one in weights.values())
    assert weights["right"][0] > 1
    assert weights["noise"][0] < 0.2


def test_a_modality_that_tells_nothing_costs_nothing():
    found, labels = evidence()
    noise = np.random.default_rng(5).normal(size=labels.shape)
    stack = Stack.fit({**found, "noise": noise}, labels, exclusive=False)
    alone = Stack.fit(found, labels, exclusive=False)
    assert stack.weights["noise"][0] == 0
    assert stack({**found, "noise": noise}) == pytest.approx(alone(found))


def test_exclusive_findings_leave_it_out_too():
    rng = np.random.default_rng(0)
    labels = np.eye(3)[rng.integers(0, 3, 500)]
    found = {"right": labels * 2 + rng.normal(size=labels.shape), "noise": 3 * rng.normal(size=labels.shape)}
    assert not Stack.fit(found, labels, exclusive=True).weights["noise"].any()


def test_where_no_modality_tells_anything_all_are_taken():
    found, labels = evidence(8)
    weights = Stack.fit({name: -one for name, one in found.items()}, labels, exclusive=False).weights
    assert set(weights) == {"weak", "strong"}
    assert all((one >= 0).all() for one in weights.values())
