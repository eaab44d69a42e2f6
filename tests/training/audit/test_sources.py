import numpy as np
import pytest

from tests.training.audit.made import made_cohort
from training.audit.sources import compare_sources, source_folds


def test_each_source_is_left_out_with_its_patients():
    sources = ["north"] * 40 + ["south"] * 40 + [None] * 10 + ["harbour"] * 4
    patients = np.arange(94)
    patients[45] = 3  # one patient of the north was also seen in the south
    cohort = made_cohort(np.tile([0, 1], 47), source=sources, patients=patients)
    north, south = source_folds(cohort)
    assert (north.source, south.source) == ("north", "south")
    assert north.test.tolist() == list(range(40))
    assert set(north.train) == set(range(40, 80)) - {45} | set(range(90, 94))
    assert set(south.train) == set(range(40)) - {3} | set(range(90, 94))
    assert south.test.tolist() == list(range(40, 80))


def test_a_source_needs_patients_of_both_kinds_and_others_to_learn_from():
    labels = np.zeros(60)
    labels[:20] = np.tile([0, 1], 10)
    labels[40:45] = 1
    alone = ["north"] * 20 + ["south"] * 20 + ["harbour"] * 20
    assert [fold.source for fold in source_folds(made_cohort(labels, source=alone))] == ["harbour", "north"]
    of_one = np.where(labels == 1, 99, np.arange(60))
    assert source_folds(made_cohort(labels, source=alone, patients=of_one)) == []
    assert source_folds(made_cohort(labels, source=["north"] * 60)) == []
    assert source_folds(made_cohort(labels)) == []


def scored(seed=0, n=600):
    """Two findings in three sources; the first is common in the last of them."""
    rng = np.random.default_rng(seed)
    source = rng.integers(0, 3, n)
    labels = np.column_stack([rng.random(n) < np.array([0.1, 0.1, 0.9])[source], rng.random(n) < 0.5]).astype(float)
    cohort = made_cohort(labels, source=[f"site {number}" for number in source])
    return cohort, source, labels, rng


def compared(cohort, ordinary, left_out, error_rate=0.05):
    folds = source_folds(cohort)
    tables, concerns = compare_sources(
        cohort, folds, {"method": ordinary}, {"method": left_out}, error_rate=error_rate, seed=0
    )
    return tables["sources"].set_index("finding"), concerns


def concordance(labels, scores, groups):
    """Share of the pairs of a positive and a negative of one group in which the positive has the higher score."""
    won = pairs = 0.0
    for group in np.unique(groups):
        positive = scores[(groups == group) & (labels == 1)]
        negative = scores[(groups == group) & (labels == 0)]
        difference = positive[:, None] - negative[None, :]
        won += (difference > 0).sum() + 0.5 * (difference == 0).sum()
        pairs += difference.size
    return won / pairs


def test_a_method_that_knows_the_sources_only_is_found_out():
    cohort, source, labels, rng = scored()
    signal = labels + rng.normal(size=labels.shape)
    ordinary = np.column_stack([(source == 2) + 0.01 * rng.random(600), signal[:, 1]])
    left_out = np.column_stack([rng.random(600), signal[:, 1]])
    table, concerns = compared(cohort, ordinary, left_out)
    first = table.loc["finding_0"]
    assert first.cross_validated == pytest.approx(concordance(labels[:, 0], ordinary[:, 0], np.zeros(600)))
    assert first.within_sources == pytest.approx(concordance(labels[:, 0], ordinary[:, 0], source))
    assert first.left_out == pytest.approx(concordance(labels[:, 0], left_out[:, 0], source))
    assert first["drop"] == pytest.approx(first.cross_validated - first.left_out)
    assert first.cross_validated > 0.85
    assert first.within_sources < 0.6
    assert table.suspect.to_dict() == {"finding_0": True, "finding_1": False}
    [concern] = concerns
    assert (concern.kind, concern.grade, concern.finding) == ("source", "suspect", "finding_0")
    assert f"from AUROC {first.cross_validated:.2f} to {first.left_out:.2f}" in concern.text


def test_a_method_that_knows_the_finding_keeps_it():
    cohort, _, labels, rng = scored(1)
    signal = 2 * labels + rng.normal(size=labels.shape)
    table, concerns = compared(cohort, signal, signal + 0.2 * rng.normal(size=labels.shape))
    assert (table.left_out > 0.85).all()
    assert not table.suspect.any()
    assert concerns == []


def test_only_studies_with_label_and_both_scores_are_evaluated():
    cohort, source, labels, rng = scored(2)
    ordinary, left_out = rng.random(labels.shape), rng.random(labels.shape)
    ordinary[:50] = np.nan
    left_out[50:90] = np.nan
    left_out[source == 1, 0] = np.nan
    table, _ = compared(cohort, ordinary, left_out)
    assert table.sources.tolist() == [2, 3]
    assert table.studies.tolist() == [(source[90:] != 1).sum(), 510]
    assert table.positives["finding_1"] == labels[90:, 1].sum()


def test_no_source_no_table():
    cohort = made_cohort(np.tile([0, 1], 50))
    scores = np.zeros((100, 1))
    tables, concerns = compare_sources(cohort, [], {"method": scores}, {"method": scores}, error_rate=0.05, seed=0)
    assert len(tables["sources"]) == 0
    assert concerns == []
