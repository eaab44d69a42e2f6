"""Patients: those that the probabilities are fitted on, those held out, and the folds of the choice between methods.

Patients are put in order by what is known of their studies, by chance among those of whom the same is known, and dealt
out along that order: every part gets its share of every kind.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def patient_folds(labels: Floats, patient_ids: npt.NDArray, folds: int, seed: int) -> npt.NDArray[np.intp]:
    """Fold of each study, [N]; studies of a patient share it.

    Parameters
    ----------
    labels : float [N, F]
        1 present, 0 absent, NaN unknown.
    patient_ids : [N]
    """
    patient, order = _in_order(labels, np.zeros((len(labels), 0), bool), patient_ids, np.random.default_rng([seed, 1]))
    fold = np.empty(len(order), np.intp)
    fold[order] = np.arange(len(order)) % folds
    return fold[patient]


def held_out_patients(
    labels: Floats, present: Bools, patient_ids: npt.NDArray, share: float, needed: Bools, seed: int
) -> Bools:
    """Which studies are held out from the fit, bool [N]: about `share` of the patients.

    Parameters
    ----------
    labels : float [N, F]
    present : bool [N, K]
        What else every part should have its share of.
    needed : bool [N, C]
        What a fit cannot do without. Where only patients that were drawn have one of these, the first goes back.
    """
    rng = np.random.default_rng([seed, 2])
    patient, order = _in_order(labels, present, patient_ids, rng)
    steps = np.floor(np.arange(len(order) + 1) * share + rng.random())
    drawn = np.empty(len(order), bool)
    drawn[order] = np.diff(steps) > 0
    for column in needed.T:
        if column.any() and drawn[patient[column]].all():
            drawn[patient[column][0]] = False
    return drawn[patient]


def _in_order(
    labels: Floats, present: Bools, patient_ids: npt.NDArray, rng: np.random.Generator
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Patient of each study, [N], and the patients in order, [P]."""
    patients, patient = np.unique(np.asarray(patient_ids), return_inverse=True)
    studies = np.bincount(patient)
    known = np.column_stack([np.where(np.isnan(labels), 0.5, labels), present])
    mean = np.stack([np.bincount(patient, column) for column in known.T]) / studies
    # The last key counts first.
    return patient, np.lexsort([rng.random(len(patients)), *mean[::-1]])
