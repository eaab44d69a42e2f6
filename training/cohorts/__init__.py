"""Cohorts, one module or folder each; what comes out is a `training.cohorts.cohort.Cohort`.

Open `cohort_kind` first, then `manifest`: it is the general kind, and a phantom is read through it. Third parties add a
kind by an entry point of the group ``consilium.cohorts`` that names a `CohortKind`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from consilium.domain.errors import InputError
from consilium.system.installed import by_name, load, of_entry_points
from training.cohorts.cohort import Cohort
from training.cohorts.cohort_kind import CohortKind
from training.cohorts.versions.version_record import cohort_folder

GROUP = "consilium.cohorts"
_BUILT_IN = (
    "training.cohorts.covid_chestxray:KIND",
    "training.cohorts.phantom:KIND",
    "training.cohorts.manifest:KIND",
)


@cache
def cohort_kinds() -> Mapping[str, CohortKind]:
    """Every installed kind by name: those of entry points, then the built-in ones, the most general last.

    Raises
    ------
    ValueError
        Where two have the same name.
    """
    return MappingProxyType(by_name([*of_entry_points(GROUP), *map(load, _BUILT_IN)], "cohort kinds are called"))


def cohort_kind(name: str) -> CohortKind:
    """The kind called `name`.

    Raises
    ------
    InputError
        Where none is installed under that name.
    """
    try:
        return cohort_kinds()[name]
    except KeyError:
        raise InputError("cohort.kind", name, f"must be one of {', '.join(sorted(cohort_kinds()))}") from None


def recognise_kind(root: Path) -> CohortKind:
    """The first kind that has the layout of the folder `root`.

    Raises
    ------
    InputError
        Where none has.
    """
    root = cohort_folder(root)
    for kind in cohort_kinds().values():
        try:
            if kind.recognises(root):
                return kind
        except OSError:  # a folder that may not be read has no layout
            continue
    rule = "must be a folder with studies.csv, or have the layout of one of the cohort kinds: "
    raise InputError("cohort", str(root), rule + ", ".join(sorted(cohort_kinds())))


def load_cohort(
    kind: str, root: Path, options: Mapping[str, Any] = MappingProxyType({}), *, mask_notes: bool = True
) -> Cohort:
    """The cohort of this `kind` in the folder `root`.

    Parameters
    ----------
    kind : str
        One of `cohort_kinds`.
    root : Path
        A store of versions stands for its newest one.
    options : mapping
        What the recipe's section ``cohort`` holds beside the kind.
    mask_notes : bool
        Whether notes lose names, dates and identifiers on the way in: `Recipe.masks_identifiers`.

    Raises
    ------
    InputError
        Where there is no such kind or option.
    CohortError
        With every problem of the folder.
    """
    chosen = cohort_kind(kind)
    try:
        there = root.is_dir() and os.access(root, os.R_OK | os.X_OK, effective_ids=True)
    except OSError:
        there = False
    if not there:
        raise InputError("cohort", str(root), "must be a folder that can be read")
    return chosen.read_cohort(cohort_folder(root), options, mask_notes=mask_notes)
