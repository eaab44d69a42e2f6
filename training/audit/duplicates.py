"""Patients, images and notes that stand in a cohort more than once.

What is in training and in the test under two names is judged by memory. `find_duplicates` looks for patients in two
splits, and for images (`training.audit.near_images`) and notes (`training.audit.near_notes`) that two patients share,
or that one patient has under two labels.
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
from training.audit.buckets import Pairs, linked
from training.audit.near_images import Fingerprints, fingerprint, near_images
from training.audit.near_notes import SIMILARITY, distinct_texts, improbability, near_texts, needed_bits
from training.audit.report import REMARK, SUSPECT, UNUSABLE, Concern
from training.cohorts.cohort import Cohort
from training.data.datamodule import CachedCohort
from training.evaluation.baselines import readable_study

Indices = npt.NDArray[np.int64]

ACROSS, WITHIN, CONTRADICTING = "patients in two splits", "patients in one split", "one patient, two labels"
"""How the studies that share a record are related; `ACROSS` is a leak."""
_SAME, _NEAR = "the same", "nearly the same"
_COLUMNS = ("record", "likeness", "relation", "groups", "studies", "patients", "contradicting")


@dataclass(frozen=True, slots=True)
class _Group:
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
    """Look for patients, images and notes that stand in `cohort` more than once.

    Parameters
    ----------
    cohort : Cohort
    cached : CachedCohort or None
        With the pixels; None: images are not compared.
    parts : sequence of str or None
        Split or fold of each record. None: the splits that the cohort fixes; where it fixes none any two patients may
        be put apart, so each counts as a part.
    inputs : Scope or None
        Which notes are compared: those that a model reads.
    seed : int
        Of the hash functions that find candidates.

    Returns
    -------
    tables : dict
        ``duplicates``: one row for patients, images and notes, each way of being alike and each relation; a group is a
        set of studies that share a record, `contradicting` counts the groups whose labels differ.
    concerns : list of Concern
    """
    studies = _studies(cohort, parts)
    lines, concerns = _split_patients(studies)
    images: list[_Group] = []
    correlation = 1.0
    if cached is not None:
        images, correlation = _image_groups(cached, studies.patients, seed)
        lines += _lines("image", images, studies)
    notes = _note_groups(cohort, inputs or Scope(), studies.patients, seed)
    lines += _lines("note", notes, studies)
    table = pd.DataFrame(lines, columns=list(_COLUMNS))
    concerns += _concerns(table, "image", f"correlation of at least {correlation:.2f}")
    concerns += _concerns(table, "note", f"Jaccard index of at least {SIMILARITY:.2f}")
    return {"duplicates": table}, concerns


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


def _image_groups(cached: CachedCohort, patients: Indices, seed: int) -> tuple[list[_Group], float]:
    """Groups of images, and the correlation from which two count as one."""
    holders: dict[str, list[int]] = defaultdict(list)
    prints: dict[str, Fingerprints] = {}
    for row, study in enumerate(cached.studies):
        for image in study.images:
            if image.digest not in holders:
                taken = fingerprint(cached.cache.square(image.digest), image)
                # Blank images are alike without being copies.
                if taken is None:
                    continue
                prints[image.digest] = taken
            holders[image.digest].append(row)
    if not holders:
        return [], 1.0
    owners = np.array([patients[rows[0]] for rows in holders.values()])
    pairs, correlation = near_images(np.stack(list(prints.values())), owners, seed)
    return list(_grouped(list(holders.values()), pairs)), correlation


def _note_groups(cohort: Cohort, inputs: Scope, patients: Indices, seed: int) -> list[_Group]:
    texts = distinct_texts([readable_study(record, inputs) for record in cohort.records])
    if not texts:
        return []
    bits = improbability(texts, patients.tolist())
    needed = needed_bits(sum(len(set(patients[text.rows].tolist())) for text in texts))
    rare = np.flatnonzero(bits >= needed)
    kept, bits = [texts[number] for number in rare], bits[rare]
    pairs, likeness = near_texts(kept, seed)
    # What differs between two texts may be what was improbable of them.
    common = likeness * bits[pairs].min(axis=1, initial=np.inf)
    return list(_grouped([text.rows for text in kept], pairs[common >= needed]))


def _grouped(holders: Sequence[Sequence[int]], pairs: Pairs) -> Iterator[_Group]:
    """What is linked by `pairs`, as far as several studies hold it; `holders` has the rows of each distinct record."""
    members: dict[int, list[int]] = defaultdict(list)
    for number, group in enumerate(linked(pairs, len(holders)).tolist()):
        members[group].append(number)
    for numbers in members.values():
        rows = np.unique([row for number in numbers for row in holders[number]])
        if len(rows) > 1:
            yield _Group(rows, same=len(numbers) == 1)


# --- what is said of it ----------------------------------------------------------------------------------------------


def _lines(record: str, groups: Sequence[_Group], studies: _Studies) -> list[dict[str, object]]:
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
        concerns.append(Concern(f"duplicate_{record}", SUSPECT if relation == ACROSS else REMARK, text))
    return concerns


def _counted(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"
