from pathlib import Path

import numpy as np
import pytest

from consilium.domain.errors import TrainingError
from consilium.domain.findings import Finding, FindingSet
from training.cohorts.cohort import SPLITS, Cohort, StudyRecord
from training.cohorts.splits import folds, split_cohort

FRACTIONS = {"train": 0.6, "validation": 0.1, "calibration": 0.1, "test": 0.2}


def make_cohort(labels, patients, splits=None, exclusive=False):
    labels = np.asarray(labels, np.float32)
    findings = FindingSet(tuple(Finding(f"finding_{i}", f"Finding {i}") for i in range(labels.shape[1])), exclusive)
    records = tuple(
        StudyRecord(f"s{i}", f"p{patient}", row, split=splits[i] if splits else None)
        for i, (row, patient) in enumerate(zip(labels, patients, strict=True))
    )
    return Cohort("made", findings, records, Path(), "digest")


def random_cohort(seed=0, studies=600, rates=(0.5, 0.25, 0.06)):
    rng = np.random.default_rng(seed)
    patients = rng.integers(0, studies // 2, studies)
    labels = (rng.random((studies, len(rates))) < rates).astype(np.float32)
    labels[rng.random(labels.shape) < 0.1] = np.nan
    return make_cohort(labels, patients)


def test_splits_partition_the_cohort_by_patient():
    cohort = random_cohort()
    splits = split_cohort(cohort, FRACTIONS, seed=3)
    assert list(splits) == list(SPLITS)
    assert sorted(np.concatenate(list(splits.values()))) == list(range(len(cohort)))
    patients = [set(cohort.patient_ids[indices]) for indices in splits.values()]
    assert sum(map(len, patients)) == len(set.union(*patients))


def test_splits_keep_sizes_and_prevalence():
    cohort = random_cohort()
    splits = split_cohort(cohort, FRACTIONS, seed=3)
    for name, indices in splits.items():
        assert len(indices) == pytest.approx(FRACTIONS[name] * len(cohort), abs=0.02 * len(cohort))
        for column in range(3):
            positives = (cohort.labels[:, column] == 1).sum()
            got = (cohort.labels[indices, column] == 1).sum()
            assert got == pytest.approx(FRACTIONS[name] * positives, abs=2 + 0.03 * positives)


def test_the_seed_decides():
    cohort = random_cohort()
    first, again, other = (split_cohort(cohort, FRACTIONS, seed)["test"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_given_splits_are_honoured():
    labels = [[0], [1]] * 4
    given = [name for name in SPLITS for _ in range(2)]
    cohort = make_cohort(labels, range(8), given)
    splits = split_cohort(cohort, FRACTIONS, seed=0)
    assert {name: indices.tolist() for name, indices in splits.items()} == {
        "train": [0, 1],
        "validation": [2, 3],
        "calibration": [4, 5],
        "test": [6, 7],
    }


def test_given_splits_must_be_whole_and_keep_patients_together():
    labels = [[0], [1]] * 4
    given = [name for name in SPLITS for _ in range(2)]
    with pytest.raises(TrainingError, match="1 of 8 have none"):
        split_cohort(make_cohort(labels, range(8), [*given[:-1], None]), FRACTIONS, 0)
    with pytest.raises(TrainingError, match="two sides"):
        split_cohort(make_cohort(labels, [0, 1, 2, 3, 4, 5, 6, 0], given), FRACTIONS, 0)
    with pytest.raises(TrainingError, match="splits elsewhere"):
        split_cohort(make_cohort(labels, range(8), [*given[:-1], "elsewhere"]), FRACTIONS, 0)


def test_a_split_without_positives_is_refused_by_name():
    cohort = make_cohort([[1]] + [[0]] * 39, range(40))
    with pytest.raises(TrainingError, match=r"0 positive and \d+ negative studies of finding_0"):
        split_cohort(cohort, FRACTIONS, 0)


def test_a_validation_split_without_positives_is_a_warning(caplog):
    splits = ["train", "train", "validation", "calibration", "calibration", "test", "test"]
    cohort = make_cohort([[1], [0], [0], [1], [0], [1], [0]], range(7), splits)
    assert split_cohort(cohort, FRACTIONS, 0)["validation"].tolist() == [2]
    assert caplog.messages == ["the validation split (1 studies) has 0 positive and 1 negative studies of finding_0"]
    unknown = make_cohort([[1], [0], [np.nan], [1], [0], [1], [0]], range(7), splits)
    with pytest.raises(TrainingError, match=r"validation split \(1 studies\) would have no known label"):
        split_cohort(unknown, FRACTIONS, 0)


def test_an_unwanted_split_stays_empty():
    cohort = random_cohort()
    splits = split_cohort(cohort, {"train": 0.5, "validation": 0.0, "calibration": 0.25, "test": 0.25}, 0)
    assert len(splits["validation"]) == 0
    assert len(splits["train"]) == pytest.approx(len(cohort) / 2, abs=12)


@pytest.mark.parametrize("fractions", [{"train": 1.0}, FRACTIONS | {"test": 0.5}])
def test_fractions_must_add_up(fractions):
    with pytest.raises(TrainingError, match="add up to 1"):
        split_cohort(random_cohort(), fractions, 0)


def test_folds_test_every_record_once_and_keep_patients_together():
    cohort = random_cohort(5)
    pairs = folds(cohort, 5, seed=1)
    assert sorted(np.concatenate([test for _, test in pairs])) == list(range(len(cohort)))
    for train, test in pairs:
        assert len(train) + len(test) == len(cohort)
        assert not set(cohort.patient_ids[train]) & set(cohort.patient_ids[test])
        share = np.nanmean(cohort.labels[test], axis=0) - np.nanmean(cohort.labels, axis=0)
        assert np.abs(share).max() < 0.03


def test_folds_of_exclusive_findings_are_stratified():
    rng = np.random.default_rng(0)
    classes = rng.choice(4, 300, p=[0.6, 0.25, 0.1, 0.05])
    cohort = make_cohort(np.eye(4)[classes], np.arange(300), exclusive=True)
    for _, test in folds(cohort, 5, 0):
        assert np.abs(cohort.labels[test].sum(axis=0) - cohort.labels.sum(axis=0) / 5).max() <= 1


def test_folds_need_patients_and_both_sides():
    with pytest.raises(TrainingError, match="got 3 patients"):
        folds(make_cohort([[0], [1], [0], [1]], [0, 1, 2, 2]), 5, 0)
    with pytest.raises(TrainingError, match="training side of fold"):
        folds(make_cohort([[1]] + [[0]] * 9, range(10)), 5, 0)
