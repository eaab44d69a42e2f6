from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from tests.training.monitoring.answers_made import POINT, made_reference, made_table, probabilities
from training.monitoring.label_free import expected_figures, expected_performance


def test_expected_figures_are_those_of_outcomes_that_follow_the_probabilities() -> None:
    rng = np.random.default_rng(0)
    p = probabilities(rng, 300)[:, 0]
    called = p >= 0.3
    found = expected_figures(p, called, np.ones((1, 300)))
    draws = rng.random((4000, 300)) < p
    assert found["auroc"][0] == pytest.approx(np.mean([roc_auc_score(y, p) for y in draws[:200]]), abs=0.006)
    assert found["brier"][0] == pytest.approx(np.mean([brier_score_loss(y, p) for y in draws[:200]]), abs=0.004)
    assert found["sensitivity"][0] == pytest.approx(np.mean([called[y].mean() for y in draws]), abs=0.01)
    assert found["specificity"][0] == pytest.approx(np.mean([(~called)[~y].mean() for y in draws]), abs=0.01)


def test_a_replicate_counts_answers_as_often_as_its_weights_say() -> None:
    rng = np.random.default_rng(1)
    p, weights = probabilities(rng, 40)[:, 0], rng.integers(0, 3, (1, 40)).astype(float)
    repeated = np.repeat(p, weights[0].astype(int))
    weighted = expected_figures(p, p >= 0.3, weights)
    plain = expected_figures(repeated, repeated >= 0.3, np.ones((1, len(repeated))))
    for name in ("brier", "sensitivity", "specificity"):
        assert weighted[name] == pytest.approx(plain[name])


def test_every_finding_has_figures_with_intervals() -> None:
    table = made_table(made_reference(), 2)
    found = expected_performance(table, dict.fromkeys(table.findings, POINT), replicates=30, seed=0)
    assert list(found.finding) == list(table.findings)
    assert (found.auroc_low <= found.auroc).all()
    assert (found.auroc <= found.auroc_high).all()
    assert found.auroc.min() > 0.6
