"""Cohorts, one file each; what comes out is a `training.cohorts.cohort.Cohort`.

Open `manifest` first: it is the general one, and a phantom is read through it. `load_cohort` chooses by kind.
"""

from __future__ import annotations

import os
from pathlib import Path

from consilium.domain.errors import InputError
from consilium.formats.time_zone import TimeZone
from training.cohorts.cohort import Cohort
from training.cohorts.covid_chestxray import read_covid_chestxray
from training.cohorts.manifest import read_manifest

KINDS = ("manifest", "phantom", "covid-chestxray")


def load_cohort(
    kind: str,
    root: Path,
    task: str = "",
    mask_label_words: bool = True,
    strict: bool = False,
    *,
    mask_notes: bool = True,
) -> Cohort:
    """The cohort of this `kind` in the folder `root`.

    Parameters
    ----------
    kind : str
        One of `KINDS`. A phantom lies in the manifest's layout and is read as one.
    root : Path
    task : str
        For a cohort that has several; ``severity`` or ``aetiology`` for covid-chestxray.
    mask_label_words, strict : bool
        Blank words that give the label away; leave out records made after the outcome. For covid-chestxray: a manifest
        has no list of such words and does not say when its outcome was.
    mask_notes : bool
        Whether notes lose names, dates and identifiers on the way in: the recipe's ``inputs.mask_notes``.

    Raises
    ------
    InputError
        Where there is no such kind or task.
    CohortError
        With every problem of the folder.
    """
    if kind not in KINDS:
        raise InputError("cohort.kind", kind, f"must be one of {', '.join(KINDS)}")
    try:
        there = root.is_dir() and os.access(root, os.R_OK | os.X_OK, effective_ids=True)
    except OSError:
        there = False
    if not there:
        raise InputError("cohort", str(root), "must be a folder that can be read")
    if kind == "covid-chestxray":
        return read_covid_chestxray(root, task, mask_label_words=mask_label_words, strict=strict, mask_notes=mask_notes)
    if task:
        raise InputError("cohort.task", task, f"must be empty: a {kind} cohort has one task")
    # A phantom's times are made up, and the same on every machine.
    return read_manifest(root, TimeZone("UTC") if kind == "phantom" else None, mask_notes=mask_notes)
