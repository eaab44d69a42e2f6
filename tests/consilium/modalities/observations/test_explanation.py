from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from consilium.artifacts.artifact import Artifact
from consilium.domain.study import Study
from consilium.explain.case import Case
from consilium.modalities.observations import explanation as values
from tests.consilium.explain.cases import BOTH, case_of, values_study
from tests.consilium.tiny_artifact import tiny_artifact


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return tiny_artifact()


@pytest.fixture(scope="module")
def case(artifact: Artifact) -> Case:
    return case_of(artifact, values_study(5))


def _with_values(case: Case, known: set[int]) -> np.ndarray:
    """Log-odds of a study that never had the others: prepared, batched and calibrated anew."""
    batch = case.preprocessing.collate([case.prepared])
    for feature in range(batch.inputs["observations"]["mask"].shape[1]):
        batch.inputs["observations"]["mask"][0, feature] = feature in known
    subset = "text+observations" if known else "text"
    with torch.no_grad():
        return case.calibration.log_odds(case.model(batch).fused.double().numpy(), subset)[0]


def test_shapley_values_are_mean_gains_over_all_orders(case: Case) -> None:
    assert len(case.units["observations"]) == 3
    gains = np.zeros((2, 3))
    for order in permutations(range(3)):
        seen: set[int] = set()
        for player in order:
            before = _with_values(case, seen)
            seen.add(case.units["observations"][player])
            gains[:, player] += (_with_values(case, seen) - before) / 6
    assert values.shapley(case, BOTH) == pytest.approx(gains, abs=1e-5)
    assert np.abs(gains).max() > 1e-2


def test_sampled_shapley_values_add_up_and_come_near(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = values.shapley(case, BOTH)
    monkeypatch.setattr(values, "MOST_EXACT", 2)
    sampled = values.shapley(case, BOTH)
    assert sampled.sum(axis=1) == pytest.approx(exact.sum(axis=1), abs=1e-5)
    assert sampled == pytest.approx(exact, abs=0.25 * np.abs(exact).max())
    assert not np.array_equal(sampled, exact)
    assert np.array_equal(sampled, values.shapley(case, BOTH))


def test_the_only_value_left_out_leaves_a_study_without_values(artifact: Artifact) -> None:
    case = case_of(artifact, values_study(5, everything=False))
    with_it, without = _with_values(case, set(case.units["observations"])), _with_values(case, set())
    assert values.leave_one_out(case, BOTH)[:, 0] == pytest.approx(with_it - without, abs=1e-5)
    alone = case_of(artifact, Study({"observations": values_study(5).parts["observations"]}))
    prior = np.array(alone.calibration.prior_log_odds)
    expected = alone.log_odds(alone.fused)[0] - prior
    assert values.leave_one_out(alone, BOTH)[:, 0] == pytest.approx(expected, abs=1e-6)
    assert values.shapley(alone, BOTH)[:, 0] == pytest.approx(expected, abs=1e-6)


def test_gradient_x_value_is_measured_from_the_average_patient(case: Case) -> None:
    encoder = case.model.encoders["observations"]
    found = values.gradient_x_value(case, [1])[0]
    read = case.batch.inputs["observations"]
    own, typical = encoder.values(read["numbers"], read["codes"]), encoder.average_values()
    inputs = own.detach().clone().requires_grad_()
    tokens = dict(case.tokens)
    observations = next(m for m in tokens if m == "observations")
    tokens[observations] = encoder(read, inputs)
    fused = case.model.fuse(tokens)
    (slope,) = torch.autograd.grad((fused * case.direction(fused, 1)).sum(), inputs)
    expected = (slope * (own - typical)).sum(-1)[0].detach().numpy()[list(case.units["observations"])]
    assert found == pytest.approx(expected, abs=1e-6)
    assert np.abs(expected).max() > 1e-4
