"""Training, validation, calibration and test splits: by patient, stratified by label.

`split_cohort` gives the four splits of one run, `folds` the pairs of a cross-validation. Both rest on one method:
iterative stratification (Sechidis et al., ECML PKDD 2011), with patients in place of single studies, so that no patient
stands on two sides and every side keeps its share of each finding's positives and negatives.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import TrainingError
from training.cohorts.cohort import SPLITS, Cohort

_log = logging.getLogger(__name__)

Indices = npt.NDArray[np.int64]
Fold = tuple[Indices, Indices]


def split_cohort(cohort: Cohort, fractions: Mapping[str, float], seed: int) -> dict[str, Indices]:
    """Indices of the records in each split, ascending.

    Parameters
    ----------
    cohort : Cohort
        Where its records fix their splits, these are honoured and `fractions` only say which splits are needed.
    fractions : mapping of str to float
        Share of the studies for each of `SPLITS`; they add up to 1. A split with 0 stays empty.
    seed : int

    Raises
    ------
    TrainingError
        Where only some records fix a split, a patient stands in two of them, or a split would be without any positive
        or any negative of a finding. Of validation that is a warning: its loss still says when to stop; but it must
        have a known label.
    """
    splits = split_unlabelled(cohort, fractions, seed)
    for name in SPLITS:
        if fractions[name] > 0 and name != "validation":
            _require_both_sides(cohort, splits[name], f"the {name} split")
    if fractions["validation"] > 0:
        require_validation(cohort, splits["validation"])
    return splits


def split_unlabelled(cohort: Cohort, fractions: Mapping[str, float], seed: int) -> dict[str, Indices]:
    """As `split_cohort`, whatever labels there are: for what learns without them.

    Raises
    ------
    TrainingError
        Where only some records fix a split, or a patient stands in two of them.
    """
    if set(fractions) != set(SPLITS) or min(fractions.values()) < 0 or abs(sum(fractions.values()) - 1) > 1e-6:
        raise TrainingError(f"fractions must name {', '.join(SPLITS)} and add up to 1, got {dict(fractions)}")
    given = [record.split for record in cohort.records]
    if any(split is not None for split in given):
        part = _given_parts(cohort, given)
    else:
        shares = np.array([fractions[name] for name in SPLITS])
        part = stratified_parts(cohort.labels, cohort.patient_ids, shares, np.random.default_rng(seed))
    return {name: np.flatnonzero(part == number) for number, name in enumerate(SPLITS)}


def require_validation(cohort: Cohort, indices: Indices) -> None:
    """`TrainingError` where no study at `indices` has a known label; a warning where a finding lacks a side."""
    if np.isnan(cohort.labels[indices]).all():
        raise TrainingError(
            f"the validation split ({len(indices)} studies) would have no known label: give more studies, or other "
            "fractions; splits.validation=0 trains all epochs without one"
        )
    for lack in _lacking(cohort, indices):
        _log.warning("the validation split (%d studies) has %s", len(indices), lack)


def folds(cohort: Cohort, k: int, seed: int) -> list[Fold]:
    """Pairs of training and test indices, ascending; the test parts cover every record once.

    Only the training side must hold both sides of every finding: the test predictions are evaluated together.

    Raises
    ------
    TrainingError
        Where there are fewer patients than folds, or a training side would lack a finding's positives or negatives.
    """
    pairs = patient_folds(cohort.labels, cohort.patient_ids, k, seed)
    for number, (train, _) in enumerate(pairs):
        _require_both_sides(cohort, train, f"the training side of fold {number + 1} of {k}")
    return pairs


def patient_folds(labels: npt.NDArray[np.float32], patient_ids: npt.NDArray[np.str_], k: int, seed: int) -> list[Fold]:
    """`folds` for bare arrays: labels [N, F] (NaN unknown) and the patient of each row [N]."""
    patients = len(np.unique(patient_ids))
    if k < 2 or patients < k:
        raise TrainingError(f"{k} folds need at least 2 folds and {k} patients, got {patients} patients")
    part = stratified_parts(labels, patient_ids, np.full(k, 1 / k), np.random.default_rng(seed))
    return [(np.flatnonzero(part != number), np.flatnonzero(part == number)) for number in range(k)]


def stratified_parts(
    labels: npt.NDArray[np.float32],
    patient_ids: npt.NDArray[np.str_],
    shares: npt.NDArray[np.float64],
    rng: np.random.Generator,
    *,
    most: npt.NDArray[np.int64] | None = None,
) -> Indices:
    """The part each row falls into, int64 [N], such that a patient's rows share one part.

    Parameters
    ----------
    labels : float32 [N, F]
        1 present, 0 absent, NaN unknown.
    patient_ids : str [N]
    shares : float64 [P]
        Wanted share of the rows in each part; parts with 0 stay empty.
    most : int64 [P], optional
        How many patients each part may hold; altogether at least as many as there are.

    Notes
    -----
    The rarest remaining label is dealt out first, its largest patients first, each to the part that still lacks most of
    it; a tie goes to the part that lacks most rows altogether.
    """
    _, patient = np.unique(patient_ids, return_inverse=True)
    columns = np.column_stack([labels == 1, labels == 0, np.ones(len(labels), bool)]).astype(np.float64)
    counts = np.zeros((int(patient.max()) + 1, columns.shape[1]))
    np.add.at(counts, patient, columns)
    lacking = np.outer(shares, counts.sum(axis=0))
    places = np.where(shares > 0, len(counts), 0) if most is None else most.copy()
    part = np.full(len(counts), -1, np.int64)
    while (left := part < 0).any():
        remaining = np.where(left[:, None], counts, 0).sum(axis=0)
        rarest = int(np.argmin(np.where(remaining > 0, remaining, np.inf)))
        members = rng.permutation(np.flatnonzero(left & (counts[:, rarest] > 0)))
        for member in members[np.argsort(-counts[members, rarest], kind="stable")]:
            open_parts = np.flatnonzero(places > 0)
            order = np.lexsort((rng.random(len(open_parts)), -lacking[open_parts, -1], -lacking[open_parts, rarest]))
            part[member] = open_parts[order[0]]
            lacking[part[member]] -= counts[member]
            places[part[member]] -= 1
    return part[patient]


def _given_parts(cohort: Cohort, given: Sequence[str | None]) -> Indices:
    missing = sum(split is None for split in given)
    if missing:
        raise TrainingError(f"the cohort fixes the split of some studies only; {missing} of {len(given)} have none")
    unknown = sorted({str(split) for split in given} - set(SPLITS))
    if unknown:
        raise TrainingError(f"the cohort names the splits {', '.join(unknown)}; known are {', '.join(SPLITS)}")
    pairs = {(record.patient_id, record.split) for record in cohort.records}
    shared = len(pairs) - len({patient for patient, _ in pairs})
    if shared:
        raise TrainingError(f"the cohort's own splits put patients on two sides ({shared} patient(s) too many)")
    return np.array([SPLITS.index(str(split)) for split in given], np.int64)


def _require_both_sides(cohort: Cohort, indices: Indices, where: str) -> None:
    for lack in _lacking(cohort, indices):
        raise TrainingError(
            f"{where} ({len(indices)} studies) would have {lack}; it needs both: give more studies, other fractions or "
            "fewer folds"
        )


def _lacking(cohort: Cohort, indices: Indices) -> list[str]:
    """Each finding of which the studies at `indices` lack a side, with how many there are of either."""
    labels = cohort.labels[indices]
    counts = [(int((column == 1).sum()), int((column == 0).sum())) for column in labels.T]
    return [
        f"{positive} positive and {negative} negative studies of {finding.name}"
        for finding, (positive, negative) in zip(cohort.findings, counts, strict=True)
        if not positive or not negative
    ]
