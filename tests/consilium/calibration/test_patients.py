from __future__ import annotations

import numpy as np
import pytest

from consilium.calibration.patients import held_out_patients, patient_folds


@pytest.fixture(scope="module")
def cohort() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    patients = rng.integers(0, 500, 900)
    labels = (rng.random((900, 3)) < [0.5, 0.2, 0.05]).astype(float)
    labels[rng.random((900, 3)) < 0.1] = np.nan
    return labels, rng.random((900, 3)) < 0.8, patients


def nothing_needed(studies: int) -> np.ndarray:
    return np.zeros((studies, 0), bool)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.75])
def test_the_share_is_one_of_patients_and_of_every_kind(cohort, share: float) -> None:
    labels, present, patients = cohort
    drawn = held_out_patients(labels, present, patients, share, nothing_needed(900), 1)
    assert not set(patients[drawn]) & set(patients[~drawn])
    everyone = len(np.unique(patients))
    assert abs(len(np.unique(patients[drawn])) - share * everyone) <= 1
    for f in range(2):
        assert (labels[drawn, f] == 1).sum() / (labels[:, f] == 1).sum() == pytest.approx(share, abs=0.07)


def test_the_seed_decides_who(cohort) -> None:
    labels, present, patients = cohort
    drawn = [held_out_patients(labels, present, patients, 0.5, nothing_needed(900), seed) for seed in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_everyone_has_the_same_chance_whatever_is_known_of_them(cohort) -> None:
    labels, present, patients = cohort
    times = sum(
        held_out_patients(labels, present, patients, 0.5, nothing_needed(900), s).astype(int) for s in range(200)
    )
    # 200 throws of a coin: 4.5 standard deviations to either side.
    assert 68 < times.min() < times.max() < 132


def test_the_fit_keeps_what_it_cannot_do_without(cohort) -> None:
    labels, present, patients = cohort
    needed = np.zeros((900, 1), bool)
    for seed in range(20):
        only = np.random.default_rng(seed).integers(900)
        needed[:] = False
        needed[only] = True
        assert not held_out_patients(labels, present, patients, 0.5, needed, seed)[only]


def test_folds_share_no_patient_and_are_alike(cohort) -> None:
    labels, _, patients = cohort
    fold = patient_folds(labels, patients, 5, 3)
    assert all(len(set(fold[patients == patient])) == 1 for patient in np.unique(patients))
    positives = [np.nansum(labels[fold == k, 1]) for k in range(5)]
    assert max(positives) < 1.5 * min(positives)
