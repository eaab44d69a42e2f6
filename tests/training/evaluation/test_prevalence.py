from __future__ import annotations

import numpy as np
import pytest

from consilium.configuration.recipe import CalibrationRecipe
from consilium.domain.errors import InputError
from tests.training.simulated import FINDINGS, PREVALENCE, simulate
from training.evaluation.evaluate import calibrate
from training.evaluation.metrics import finding_metrics
from training.evaluation.prevalence import prevalence_table

THERE = np.array([0.75, 0.04])


@pytest.fixture(scope="module")
def calibration():
    return calibrate(simulate(3000, 41)[0], FINDINGS, CalibrationRecipe(method="scaling"), bootstrap=2, seed=1)


def test_telling_the_prevalence_pays_where_it_is_another(calibration) -> None:
    predictions = simulate(3000, 42, prevalence=THERE)[0]
    prevalences = dict(zip(FINDINGS.names, THERE.tolist(), strict=True))
    table = prevalence_table(predictions, calibration, FINDINGS, prevalences, bootstrap=100, seed=1).set_index(
        "finding"
    )
    assert (table["nll_difference_high"] < 0).all()
    assert (table["ece_adjusted"] < 0.35 * table["ece"]).all()
    assert (table["ece_adjusted"] < 2.5 * table["ece_by_chance"]).all()
    assert np.allclose(table["given_prevalence"][:2], THERE)
    assert np.allclose(table["calibrated_prevalence"][:2], PREVALENCE, atol=0.02)
    # The figures are those of the answers from what each study has.
    p = predictions.as_present(predictions.probabilities(calibration.at_prevalence(prevalences)))
    known = ~np.isnan(p[:, 1]) & ~np.isnan(predictions.labels[:, 1])
    figures = finding_metrics(predictions.labels[known, 1], p[known, 1], None, np.ones((1, known.sum())))
    assert table.loc["effusion", "nll_adjusted"] == pytest.approx(figures["nll"][0])
    assert table.loc["effusion", "n"] == known.sum()
    difference = table["nll_adjusted"] - table["nll"]
    assert np.allclose(difference, table["nll_difference"])
    assert table.loc["macro", "nll"] == pytest.approx(table["nll"][:2].mean())


def test_telling_a_false_prevalence_costs(calibration) -> None:
    predictions = simulate(2000, 43)[0]
    table = prevalence_table(predictions, calibration, FINDINGS, {"effusion": 0.6}, bootstrap=50, seed=1)
    table = table.set_index("finding")
    assert table.loc["effusion", "nll_difference_low"] > 0
    assert table.loc["pneumonia", "nll_difference"] == 0
    with pytest.raises(InputError, match="gout"):
        prevalence_table(predictions, calibration, FINDINGS, {"gout": 0.5}, bootstrap=2, seed=1)
