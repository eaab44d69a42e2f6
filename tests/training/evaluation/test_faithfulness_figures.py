"""Figures, ranks and what follows from them, against scipy, scikit-learn and tables made by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from consilium.explain.methods import explanation_of
from training.evaluation.faithfulness import best_methods, measured_defaults
from training.evaluation.faithfulness.localisation import average_precision, centre_prior, mass_in_mask, pointing
from training.evaluation.faithfulness.scores import Scores, Subject, spearman
from training.evaluation.faithfulness.table import (
    AREA,
    CENTRE,
    COLUMNS,
    MEAN_MASK,
    MODALITIES,
    summarise,
    weighted_spearman,
)

FINDINGS = ("pneumonia", "effusion")


def test_mass_and_pointing_by_hand() -> None:
    mask = np.zeros((4, 4), bool)
    mask[0, :2] = True
    saliency = np.zeros((4, 4), np.float32)
    saliency[0, 0], saliency[2, 2], saliency[3, 3] = 3, 1, -5
    assert mass_in_mask(saliency, mask) == pytest.approx(0.75)
    assert pointing(saliency, mask) == 1
    saliency[2, 2] = 3  # two pixels share the first place
    assert pointing(saliency, mask) == 0.5
    assert mass_in_mask(-np.abs(saliency), mask) == 0
    assert mass_in_mask(np.ones((4, 4), np.float32), mask) == pointing(np.ones((4, 4), np.float32), mask) == 2 / 16
    saliency[3, 0] = np.nan  # where the model did not look
    assert mass_in_mask(saliency, mask) == pytest.approx(0.5)


def test_the_centre_prior_falls_from_the_middle() -> None:
    prior = centre_prior((100, 50))
    assert np.unravel_index(prior.argmax(), prior.shape) in {(49, 24), (49, 25), (50, 24), (50, 25)}
    assert prior[74, 24] / prior[49, 24] == pytest.approx(np.exp(-0.5), rel=0.05)
    assert prior[49, 37] / prior[49, 24] == pytest.approx(np.exp(-0.5), rel=0.1)


def test_average_precision_counts_size_whatever_the_sign() -> None:
    rng = np.random.default_rng(0)
    weights, decisive, evaluated = rng.normal(size=30), rng.random(30) < 0.3, rng.random(30) < 0.8
    expected = average_precision_score(decisive[evaluated], np.abs(weights)[evaluated])
    assert average_precision(weights, decisive, evaluated) == pytest.approx(expected)
    assert np.isnan(average_precision(weights, np.zeros(30, bool), evaluated))
    assert np.isnan(average_precision(weights, np.ones(30, bool), evaluated))


def test_rank_correlations_agree_with_scipy_in_every_replicate() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 6, 40).astype(float), rng.normal(size=40)
    weights = np.stack([np.ones(40), rng.multinomial(40, np.full(40, 1 / 40))]).astype(float)
    found = weighted_spearman(first, second, weights)
    for row, weight in enumerate(weights.astype(int)):
        expected = spearmanr(np.repeat(first, weight), np.repeat(second, weight)).statistic
        assert found[row] == pytest.approx(expected)
    assert spearman(first, second) == pytest.approx(found[0])
    assert np.isnan(spearman(np.ones(5), np.arange(5)))
    assert np.isnan(weighted_spearman(np.ones(40), second, weights)).all()


def _scores() -> Scores:
    """Two maps beside three baselines: one points better, the other worse than the middle."""
    rng, scores = np.random.default_rng(2), Scores()
    level = {"grad_cam": 0.2, "layer_cam": 0.8, AREA: 0.1, CENTRE: 0.3, MEAN_MASK: 0.9}
    for finding in FINDINGS:
        for number in range(60):
            noise = rng.normal(0, 0.05)
            for method, mean in level.items():
                for metric in ("mass_in_mask", "pointing"):
                    scores.add(Subject("image", method, finding), metric, f"p{number}", mean + noise)
            for method, alike in (("grad_cam", 0.1), ("layer_cam", 0.2)):
                scores.add(Subject("image", method, finding), "sanity", f"p{number}", alike + noise)
            scores.add(Subject("image", "grad_cam", finding), "stability", f"p{number}", np.nan)
            change = rng.normal()
            scores.add_twin(Subject("image", "layer_cam", finding), f"p{number}", 2 * change, change, -change)
            scores.add_twin(Subject("image", "grad_cam", finding), f"p{number}", -change, change, -change)
            scores.add_twin(Subject(MODALITIES, "shapley", finding), f"p{number}", change, change, change)
    return scores


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return summarise(_scores(), FINDINGS, bootstrap=200, seed=0)


def _line(table: pd.DataFrame, **where: str) -> pd.Series:
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_the_table_has_means_with_intervals_and_ranks(table: pd.DataFrame) -> None:
    assert tuple(table.columns) == COLUMNS
    line = _line(table, method="layer_cam", finding="effusion", metric="pointing")
    assert line["value"] == pytest.approx(0.8, abs=0.03)
    assert line["low"] < line["value"] < line["high"] < line["low"] + 0.06
    assert (line["n"], line["rank"]) == (60, 1)
    assert _line(table, method="grad_cam", finding="macro", metric="pointing")["rank"] == 2
    assert np.isnan(_line(table, method=MEAN_MASK, finding="macro", metric="pointing")["rank"])
    assert _line(table, method="grad_cam", finding="macro", metric="sanity")["rank"] == 1  # the lower, the better
    assert not (table["metric"] == "stability").any()  # no study had a figure


def test_gains_are_paired_differences_from_the_better_baseline(table: pd.DataFrame) -> None:
    gain = _line(table, method="layer_cam", finding="effusion", metric="pointing_gain")
    assert gain["value"] == pytest.approx(0.5)  # 0.8 above the centre's 0.3; the mean mask is no baseline of the two
    assert gain["high"] - gain["low"] < 1e-9  # what is hard about a study is hard for both
    assert _line(table, method="grad_cam", finding="macro", metric="mass_gain")["value"] == pytest.approx(-0.1)
    assert not ((table["method"] == CENTRE) & (table["metric"] == "mass_gain")).any()


def test_twins_are_compared_by_rank_and_sign(table: pd.DataFrame) -> None:
    of = {"method": "layer_cam", "finding": "pneumonia"}
    assert _line(table, **of, metric="twin_correlation")["value"] == pytest.approx(1)
    assert _line(table, **of, metric="twin_oracle_correlation")["value"] == pytest.approx(-1)
    sign = _line(table, **of, metric="twin_sign")
    assert sign["value"] == 1
    assert sign["n"] < 60  # some twins hardly moved the model
    assert _line(table, **of, metric="twin_oracle_sign")["value"] == 0
    names = set(table[table["part"] == MODALITIES]["metric"])
    assert names == {"oracle_correlation", "oracle_sign"}


def test_the_same_ledger_gives_the_same_table(table: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(table, summarise(_scores(), FINDINGS, bootstrap=200, seed=0))


def _figures(*lines: tuple[str, str, str, float]) -> pd.DataFrame:
    """(part, method, metric, value) for every finding and macro."""
    rows = [(p, m, f, metric, v, v, v, 9, 1.0) for p, m, metric, v in lines for f in ("macro", *FINDINGS)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_a_method_that_explains_an_untrained_model_alike_is_no_default() -> None:
    better = ("text", "leave_one_out", "auprc", 0.9), ("text", "leave_one_out", "sanity", 0.7)
    worse = ("text", "gradient_x_embedding", "auprc", 0.2), ("text", "gradient_x_embedding", "sanity", 0.1)
    assert best_methods(_figures(*better, *worse), "thorough") == {"text": "gradient_x_embedding"}
    unchecked = _figures(better[0], *worse)
    assert best_methods(unchecked, "thorough") == {"text": "gradient_x_embedding"}
    assert best_methods(_figures(*better), "thorough") == {}


def test_maps_above_both_baselines_for_every_finding_come_first() -> None:
    gains = {"grad_cam": (0.1, 0.1), "occlusion": (0.5, -0.1)}
    lines = [("image", m, "sanity", 0.0) for m in gains]
    lines += [
        ("image", m, metric, v)
        for m, pair in gains.items()
        for metric, v in zip(("mass_gain", "pointing_gain"), pair, strict=True)
    ]
    lines += [("image", "grad_cam", "deletion", 0.1), ("image", "occlusion", "deletion", 0.9)]
    table = _figures(*lines)
    assert best_methods(table, "thorough") == {"image": "grad_cam"}
    one = (table["method"] == "occlusion") & (table["metric"] == "pointing_gain")
    table.loc[one, "value"] = 0.1
    assert best_methods(table, "thorough") == {"image": "occlusion"}
    table.loc[one & (table["finding"] == "effusion"), "value"] = -0.1
    assert best_methods(table, "thorough") == {"image": "grad_cam"}


def test_the_fast_level_takes_fast_methods_and_ranks_decide() -> None:
    figures = {"gradient_x_value": (0.5, 0.9), "leave_one_out": (0.6, 0.2), "shapley": (0.9, 0.3)}
    lines = [("observations", m, "sanity", 0.0) for m in figures]
    lines += [
        ("observations", m, metric, v)
        for m, pair in figures.items()
        for metric, v in zip(("auprc", "deletion"), pair, strict=True)
    ]
    assert measured_defaults(_figures(*lines)) == {
        "fast": {"observations": "gradient_x_value"},
        "thorough": {"observations": "shapley"},
    }
    declared = explanation_of("observations")
    assert declared is not None
    shapley = declared.method("shapley")
    assert shapley is not None
    assert not shapley.fast
