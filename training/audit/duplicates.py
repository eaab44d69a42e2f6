"""Patients and records that stand in a cohort more than once.

What is in training and in the test under two names is predicted from memory. `find_duplicates` looks for patients in
two splits, and for records that two patients share, or that one patient has under two labels; what is nearly the same
record, each modality says (`training.training_side.TrainingSide.copies`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.configuration.modality_sections import Scope
from consilium.modalities.registry import find_modality
from training.audit.buckets import Pairs, linked
from training.audit.report import REMARK, SUSPECT, UNUSABLE, Concern
from training.cohorts.cohort import Cohort
from training.data.cached_cohort import CachedCohort
from training.training_side import training_sides

Indices = npt.NDArray[np.int64]

ACROSS, WITHIN, CONTRADICTING = "patients in two splits", "patients in one split", "one patient, two labels"
"""How the studies that share a record are related; `ACROSS` is a leak."""
_SAME, _NEAR = "the same", "nearly the same"
_COLUMNS = ("record", "likeness", "relation", "groups", "studies", "patients", "contradicting")


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of the cohort that hold one record, and whether it is the same in all of them to the last byte or word."""

    rows: Indices
    same: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Studies:
    """Of each row of the cohort: number of the patient [N], split or fold [N], labels [N, F]."""

    patients: Indices
    parts: Indices
    labels: npt.NDArray[np.float32]

    def contradict(self, rows: Indices) -> bool:
        """Some finding is present in one of `rows` and absent in another."""
        labels = self.labels[rows]
        return bool(((labels == 1).any(axis=0) & (labels == 0).any(axis=0)).any())

    def relation(self, rows: Indices) -> str | None:
        """None: one patient's studies that agree, as they may."""
        if len(np.unique(self.patients[rows])) > 1:
            return ACROSS if len(np.unique(self.parts[rows])) > 1 else WITHIN
        return CONTRADICTING if self.contradict(rows) else None


def find_duplicates(
    cohort: Cohort,
    cached: CachedCohort | None = None,
    parts: Sequence[str | None] | None = None,
    *,
    inputs: Scope | None = None,
    seed: int = 0,
) -> tuple[dict[str, pd.DataFrame], list[Concern]]:
    """Look for patients and records that stand in `cohort` more than once.

    Parameters
    ----------
    cohort : Cohort
    cached : CachedCohort or None
        None: what is read of files is not compared.
    parts : sequence of str or None
        Split or fold of each record. None: the splits that the cohort fixes; where it fixes none any two patients may
        be put apart, so each counts as a part.
    inputs : Scope or None
        Which records are compared: those that a model reads.
    seed : int
        Of the hash functions that find candidates.

    Returns
    -------
    tables : dict
        ``duplicates``: one row for patients and each kind of record, each way of being alike and each relation; a group
        is a set of studies that share a record, `contradicting` counts the groups whose labels differ.
    concerns : list of Concern
    """
    studies = _studies(cohort, parts)
    lines, concerns = _split_patients(studies)
    nearness: dict[str, str] = {}
    for noun, near, groups in shared_records(cohort, cached, studies.patients, inputs=inputs, seed=seed):
        nearness[noun] = near
        lines += _lines(noun, groups, studies)
    table = pd.DataFrame(lines, columns=list(_COLUMNS))
    for noun, near in nearness.items():
        concerns += _concerns(table, noun, near)
    return {"duplicates": table}, concerns


def shared_records(
    cohort: Cohort, cached: CachedCohort | None, patients: Indices, *, inputs: Scope | None = None, seed: int = 0
) -> Iterator[tuple[str, str, list[Group]]]:
    """Of each kind of record, its noun, from what on two are nearly the same, and the studies that share one.

    Parameters
    ----------
    patients : int64 [N]
        Number of the patient of each row of `cohort`.
    """
    for side in training_sides():
        copies = side.copies(cohort, cached, inputs or Scope(), patients, seed)
        if copies is not None:
            yield find_modality(side.name).record, copies.near, list(_grouped(copies.holders, copies.pairs))


def _studies(cohort: Cohort, parts: Sequence[str | None] | None) -> _Studies:
    patients = np.unique(cohort.patient_ids, return_inverse=True)[1].astype(np.int64)
    given = [record.split for record in cohort.records] if parts is None else list(parts)
    if len(given) != len(cohort):
        raise ValueError(f"parts must name one for each of {len(cohort)} records, got {len(given)}")
    if all(part is None for part in given):
        return _Studies(patients, patients, cohort.labels)
    numbers = np.unique([part or "" for part in given], return_inverse=True)[1].astype(np.int64)
    return _Studies(patients, numbers, cohort.labels)


def _split_patients(studies: _Studies) -> tuple[list[dict[str, object]], list[Concern]]:
    pairs = np.unique(np.stack([studies.patients, studies.parts]), axis=1)
    split = np.flatnonzero(np.bincount(pairs[0]) > 1)
    rows = np.isin(studies.patients, split)
    counts = {"groups": len(split), "studies": int(rows.sum()), "patients": len(split)}
    contradicting = sum(studies.contradict(np.flatnonzero(studies.patients == patient)) for patient in split)
    line = {"record": "patient", "likeness": _SAME, "relation": ACROSS, **counts, "contradicting": contradicting}
    if not len(split):
        return [line], []
    text = f"{_counted(len(split), 'patient stands', 'patients stand')} in more than one split, {rows.sum()} studies"
    return [line], [Concern("split", UNUSABLE, text)]


# --- what is alike ---------------------------------------------------------------------------------------------------


def _grouped(holders: Sequence[Sequence[int]], pairs: Pairs) -> Iterator[Group]:
    """What is linked by `pairs`, as far as several studies hold it; `holders` has the rows of each distinct record."""
    members: dict[int, list[int]] = defaultdict(list)
    for number, group in enumerate(linked(pairs, len(holders)).tolist()):
        members[group].append(number)
    for numbers in members.values():
        rows = np.unique([row for number in numbers for row in holders[number]])
        if len(rows) > 1:
            yield Group(rows, same=len(numbers) == 1)


# --- warnings -------------------------------------------------------------------------------------------------------


def _lines(record: str, groups: Sequence[Group], studies: _Studies) -> list[dict[str, object]]:
    """Rows of the table for one kind of record."""
    related = [(group, studies.relation(group.rows)) for group in groups]
    lines: list[dict[str, object]] = []
    for same, relation in product((True, False), (ACROSS, WITHIN, CONTRADICTING)):
        own = [group.rows for group, is_so in related if is_so == relation and group.same is same]
        rows = np.unique(np.concatenate(own)) if own else np.zeros(0, np.int64)
        counts = (len(own), len(rows), len(np.unique(studies.patients[rows])), sum(map(studies.contradict, own)))
        likeness = _SAME if same else _NEAR
        lines.append(dict(zip(_COLUMNS, (record, likeness, relation, *counts), strict=True)))
    return lines


def _concerns(table: pd.DataFrame, record: str, near: str) -> list[Concern]:
    concerns = []
    for relation in (ACROSS, WITHIN, CONTRADICTING):
        own = table[(table.record == record) & (table.relation == relation)].set_index("likeness")
        groups = int(own.groups.sum())
        if not groups:
            continue
        who = {
            ACROSS: "shared by patients of different splits",
            WITHIN: "shared by patients of one split",
            CONTRADICTING: "repeated under one patient with different labels",
        }[relation]
        alike = f"{own.groups[_SAME]} the same, {own.groups[_NEAR]} nearly so ({near})"
        text = f"{_counted(groups, f'{record} is', f'{record}s are')} {who}: {alike}; {own.studies.sum()} studies"
        if relation != CONTRADICTING:
            text += f", {_counted(int(own.contradicting.sum()), 'group', 'groups')} with different labels"
        concerns.append(
            Concern(f"duplicate_{record.replace(' ', '_')}", SUSPECT if relation == ACROSS else REMARK, text)
        )
    return concerns


def _counted(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"
