"""Which new studies repeat another patient's records: by the methods of the audit, on all studies together."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from consilium.configuration.modality_sections import checking_sections
from consilium.domain.errors import InputError
from consilium.domain.study import Study
from consilium.preprocessing.collate import converters
from training.audit.duplicates import shared_records
from training.cohorts.cohort import Cohort, StudyRecord
from training.data.cached_cohort import CachedCohort, ReadFiles, read_files


def repeated_studies(
    cohort: Cohort, new: Sequence[bool], *, seed: int = 0, advance: Callable[[], None] | None = None
) -> dict[str, str]:
    """The new studies that share a record, the same or nearly so, with an earlier study of another patient.

    Such a study would put what a model has learned by heart into another split, under another name.

    Parameters
    ----------
    cohort : Cohort
        All studies, the known ones first.
    new : sequence of bool, [N]
        Which of them may be left out.
    advance : callable or None
        Called after each file.

    Returns
    -------
    dict of str to str
        Study, and what it shares with whom.
    """
    patients = np.unique(cohort.patient_ids, return_inverse=True)[1].astype(np.int64)
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="consilium-cohort-") as folder:
        cached = _cached(cohort, Path(folder), advance)
        for noun, near, groups in shared_records(cohort, cached, patients, seed=seed):
            for group in groups:
                like = f"the same {noun}" if group.same else f"nearly the same {noun} ({near})"
                rows = group.rows.tolist()
                for row in rows:
                    other = next((one for one in rows if one < row and patients[one] != patients[row]), None)
                    if new[row] and other is not None:
                        study = cohort.records[row].study_id
                        found.setdefault(study, f"{like} as {cohort.records[other].study_id}")
    return found


def _cached(cohort: Cohort, folder: Path, advance: Callable[[], None] | None) -> CachedCohort:
    """With all files that can be read; the others are what a training leaves out, too."""
    read = read_files(cohort, converters(checking_sections()), folder, advance)
    return CachedCohort(cohort, read.caches, tuple(_study(record, read) for record in cohort.records), {})


def _study(record: StudyRecord, read: ReadFiles) -> Study:
    usable = {
        name: [one for file in files if (one := read.record(name, file)) is not None]
        for name, files in record.files.items()
    }
    try:
        return record.study(usable)
    except InputError:  # files that contradict each other
        return record.study()
