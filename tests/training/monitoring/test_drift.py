from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from consilium.monitoring.reference import MonitoringReference
from tests.training.monitoring.answers_made import made_reference, made_table, moved
from training.monitoring.drift import EARLIER, HELD_OUT, kernel_test, multivariate_drift, univariate_drift


@pytest.fixture(scope="module")
def reference() -> MonitoringReference:
    return made_reference()


def test_without_drift_few_columns_differ(reference: MonitoringReference) -> None:
    found = univariate_drift(made_table(reference, 5, seed=3), made_table(reference, 5, seed=4), reference)
    assert found.drifted.sum() == 0
    assert set(found.against) == {EARLIER, HELD_OUT}
    assert (found.p_value < 0.05).mean() < 0.2


def test_moved_columns_are_named(reference: MonitoringReference) -> None:
    recent, earlier = moved(made_table(reference, 5, seed=3), "image", 1.0, 0), made_table(reference, 5, seed=4)
    recent = replace(recent, present=recent.present | {"text": np.arange(len(recent)) % 2 == 0})
    found = univariate_drift(recent, earlier, reference)
    drifted = {(line.against, line.kind, line.label) for line in found[found.drifted].itertuples()}
    assert {(EARLIER, "features", f"image {d}") for d in (1, 2, 3, 4)} <= drifted
    assert {(EARLIER, "presence", "text"), (HELD_OUT, "presence", "text")} <= drifted
    assert all("image" in label or label == "text" for _, _, label in drifted)


def test_noise_of_the_counts_makes_held_out_studies_count_for_fewer(reference: MonitoringReference) -> None:
    found = univariate_drift(made_table(reference, 5), made_table(reference, 5), reference)
    line = found[(found.against == HELD_OUT) & (found.kind == "presence") & (found.label == "text")].iloc[0]
    assert line.n_against == pytest.approx(reference.weight, rel=0.2)


def test_nothing_to_compare_with_gives_an_empty_table(reference: MonitoringReference) -> None:
    table = made_table(reference, 1)
    nothing = table.select(np.zeros(0, int))
    assert univariate_drift(table, nothing, None).empty
    assert multivariate_drift(table, nothing, None, 0).empty


def test_the_kernel_test_sees_a_change_of_spread_and_nothing_without_one() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(150, 3))
    assert kernel_test(first, 1.7 * rng.normal(size=(150, 3)), rng)[1] < 0.01
    same = [kernel_test(rng.normal(size=(40, 3)), rng.normal(size=(40, 3)), rng)[1] for _ in range(40)]
    assert 0.25 < np.mean(same) < 0.75


def test_features_of_a_part_are_tested_together(reference: MonitoringReference) -> None:
    recent, earlier = moved(made_table(reference, 3, seed=3), "image", 1.0, 0), made_table(reference, 3, seed=4)
    found = multivariate_drift(recent, earlier, reference, 0).set_index(["against", "part"]).drifted
    assert found[EARLIER, "image"]
    assert not found[EARLIER, "text"]
