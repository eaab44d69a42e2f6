"""How much a cohort can support: classes, subgroups, and what is missing of whom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from consilium.configuration.modality_sections import Scope
from consilium.domain.findings import Finding
from consilium.domain.study import Sex, Study
from consilium.modalities.registry import modality_names
from consilium.output.labels import share
from training.audit.association import associate, holm
from training.audit.report import REMARK, UNUSABLE, Concern
from training.cohorts.cohort import SPLITS, Cohort, StudyRecord
from training.data.cached_cohort import CachedCohort
from training.evaluation.subgroups import study_groups
from training.training_side import training_sides

Mask = npt.NDArray[np.bool_]

LEAST_PATIENTS = 10
"""Of each class: with fewer a finding, or a subgroup of it, cannot be evaluated."""
SUPPOSED_AUROC = 0.8
WIDEST = 0.1
"""Half-width of a 95 % interval of the AUROC beyond which there is a remark."""
ALL = "all"
"""The row of ``support`` that counts every split."""

_NAMED = 3
_TESTED = ("missing_present", "missing_absent", "odds_ratio", "p")


def support(
    cached: CachedCohort,
    parts: Sequence[str | None] | None = None,
    *,
    inputs: Scope | None = None,
    error_rate: float = 0.05,
) -> tuple[dict[str, pd.DataFrame], list[Concern]]:
    """Count what a cohort has of each class, where and in whom, and test whether what is missing goes with a finding.

    Parameters
    ----------
    cached : CachedCohort
    parts : sequence of str or None
        Split of each record; None: the splits that the cohort fixes.
    inputs : Scope or None
        Which notes and values a model reads; others count as missing.
    error_rate : float
        Chance of any remark on missing values where none of them goes with any finding (Holm).

    Returns
    -------
    tables : dict
        ``support``: studies and patients of each class by finding and split, and the half-width of the 95 % interval
        that an AUROC of `SUPPOSED_AUROC` would have of so many patients. ``subgroups``: studies and patients by sex,
        age, view and source. ``missingness``: how many patients lack each modality, value, age and sex with the finding
        and without it.
    concerns : list of Concern
        Unusable is a finding with fewer than `LEAST_PATIENTS` patients of a class.
    """
    cohort = cached.cohort
    given = [record.split for record in cohort.records] if parts is None else list(parts)
    if len(given) != len(cohort):
        raise ValueError(f"parts must name one for each of {len(cohort)} records, got {len(given)}")
    classes = _classes(cohort, given)
    subgroups = _subgroups(cached)
    missing = _missingness(cached, inputs or Scope())
    concerns: list[Concern] = []
    for finding in cohort.findings:
        own = [table[table.finding == finding.name] for table in (classes, subgroups, missing)]
        concerns += _concerns(finding, own[0], own[1], own[2], error_rate)
    return {"support": classes, "subgroups": subgroups, "missingness": missing}, concerns


def auroc_half_width(present: int, absent: int, auroc: float = SUPPOSED_AUROC) -> float:
    """Half-width of an AUROC's 95 % interval, given patients of each class (Hanley and McNeil, Radiology 1982).

    NaN where a class is empty.
    """
    if min(present, absent) == 0:
        return math.nan
    one_absent, one_present = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    variance = auroc * (1 - auroc)
    variance += (present - 1) * (one_absent - auroc**2) + (absent - 1) * (one_present - auroc**2)
    return float(norm.isf(0.025) * math.sqrt(variance / (present * absent)))


# --- counts ----------------------------------------------------------------------------------------------------------


def _counts(cohort: Cohort, f: int, rows: Mask) -> dict[str, int]:
    """Studies of each class at `rows`, and patients with such a study."""
    labels, patients = cohort.labels[rows, f], cohort.patient_ids[rows]
    present, absent = labels == 1, labels == 0
    return {
        "present": int(present.sum()),
        "absent": int(absent.sum()),
        "unknown": int(np.isnan(labels).sum()),
        "patients_present": len(np.unique(patients[present])),
        "patients_absent": len(np.unique(patients[absent])),
    }


def _classes(cohort: Cohort, parts: Sequence[str | None]) -> pd.DataFrame:
    named = np.array([part or "" for part in parts])
    splits = [ALL, *sorted(set(named) - {""}, key=lambda name: (SPLITS.index(name) if name in SPLITS else 9, name))]
    lines: list[dict[str, object]] = []
    for (f, finding), split in product(enumerate(cohort.findings), splits):
        counts = _counts(cohort, f, (named == split) | (split == ALL))
        width = auroc_half_width(counts["patients_present"], counts["patients_absent"])
        lines.append({"finding": finding.name, "split": split, **counts, "half_width": width})
    return pd.DataFrame(lines)


def _subgroups(cached: CachedCohort) -> pd.DataFrame:
    cohort = cached.cohort
    lines: list[dict[str, object]] = []
    for kind, members in study_groups(cohort.records, cached.studies, cohort.variables).items():
        for group, (f, finding) in product(np.unique(members).tolist(), enumerate(cohort.findings)):
            counts = _counts(cohort, f, members == group)
            lines.append({"kind": kind, "group": group, "finding": finding.name, **counts})
    return pd.DataFrame(lines)


def _missingness(cached: CachedCohort, inputs: Scope) -> pd.DataFrame:
    cohort = cached.cohort
    filled = _filled(cached, inputs)
    # What every study has, or none has, cannot go with anything.
    varied = [name for name, column in filled.items() if column.any() and not column.all()]
    lines: list[dict[str, object]] = []
    for f, finding in enumerate(cohort.findings):
        if not varied:
            break
        lacks = np.stack([~filled[name] for name in varied], axis=1)
        found = associate(lacks, cohort.labels[:, f], cohort.patient_ids)
        counts = {"patients_present": found.present, "patients_absent": found.absent}
        tested = zip(varied, found.holding_present, found.holding_absent, found.odds_ratio, found.p, strict=True)
        lines += [
            {"finding": finding.name, "missing": name, **counts, **dict(zip(_TESTED, figures, strict=True))}
            for name, *figures in tested
        ]
    table = pd.DataFrame(lines, columns=["finding", "missing", "patients_present", "patients_absent", *_TESTED])
    table["p"] = holm(table.p.to_numpy(np.float64))
    return table


def _filled(cached: CachedCohort, inputs: Scope) -> dict[str, Mask]:
    """Which studies have each modality, age, sex and each field within a modality, as a model would see them."""
    studies = [record.readable(inputs) for record in cached.cohort.records]
    whole = zip(cached.cohort.records, studies, cached.studies, strict=True)
    usable = [_usable_modalities(record, study, decoded) for record, study, decoded in whole]
    filled = {name: [name in own for own in usable] for name in modality_names()}
    filled |= {
        "age": [study.patient.age is not None for study in studies],
        "sex": [study.patient.sex is not Sex.UNKNOWN for study in studies],
    }
    for side in training_sides():
        filled |= {name: list(column) for name, column in side.fields(studies, cached.cohort.variables).items()}
    return {name: np.array(column, bool) for name, column in filled.items()}


def _usable_modalities(record: StudyRecord, readable: Study, decoded: Study) -> set[str]:
    """Which modalities a study has: of what its tables hold as `readable` has it, of files as they were `decoded`."""
    in_tables = {name: readable.parts[name] for name in record.study().parts if not record.files.get(name)}
    parts = {**decoded.parts, **in_tables}
    return {name for name, records in parts.items() if any(one.usable for one in records)}


# --- warnings ------------------------------------------------------------------------------------------------------


def _concerns(
    finding: Finding, classes: pd.DataFrame, subgroups: pd.DataFrame, missing: pd.DataFrame, error_rate: float
) -> list[Concern]:
    """Of the rows of each table that are about `finding`."""
    whole = classes[classes.split == ALL].iloc[0]
    if min(whole.patients_present, whole.patients_absent) < LEAST_PATIENTS:
        text = f"{finding.display} cannot be evaluated: {_patients(whole)}, and {LEAST_PATIENTS} of each are the least"
        return [Concern("support", UNUSABLE, text, finding.name)]
    remarks = [("support", _of_width(classes)), ("support", _of_subgroups(subgroups))]
    remarks.append(("missingness", _of_missing(missing[missing.p < error_rate].sort_values("p"))))
    return [Concern(kind, REMARK, f"{finding.display}: {text}", finding.name) for kind, text in remarks if text]


def _of_width(classes: pd.DataFrame) -> str:
    """Of what the finding is evaluated on: the test split, or all studies where there is none."""
    evaluated = classes[classes.split == ("test" if (classes.split == "test").any() else ALL)].iloc[0]
    if evaluated.half_width <= WIDEST:
        return ""
    where = "" if evaluated.split == ALL else " in the test split"
    width = "unknown" if math.isnan(evaluated.half_width) else f"known to ± {evaluated.half_width:.2f} at best"
    return f"with {_patients(evaluated)}{where} an AUROC of {SUPPOSED_AUROC} is {width}"


def _patients(counts: pd.Series) -> str:
    return f"{counts.patients_present} patient(s) with it and {counts.patients_absent} without"


def _of_subgroups(subgroups: pd.DataFrame) -> str:
    few = subgroups[subgroups[["patients_present", "patients_absent"]].min(axis=1) < LEAST_PATIENTS]
    if few.empty:
        return ""
    named = _first([f"{line.kind} {line.group}" for line in few.itertuples()])
    return (
        f"{len(few)} of {len(subgroups)} subgroups have fewer than {LEAST_PATIENTS} patients with it or without and"
        f" cannot be evaluated separately: {named}"
    )


def _of_missing(missing: pd.DataFrame) -> str:
    if missing.empty:
        return ""
    with_it, without = (missing[f"missing_{c}"] / missing[f"patients_{c}"] for c in ("present", "absent"))
    named = [
        f"{what} ({share(a)} and {share(b)})" for what, a, b in zip(missing.missing, with_it, without, strict=True)
    ]
    return f"what is missing goes with it, of patients with it and without: {_first(named)}"


def _first(named: Sequence[str]) -> str:
    rest = len(named) - _NAMED
    return ", ".join(named[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
