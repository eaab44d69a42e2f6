"""Whether a cohort can support what is asked of it: classes, subgroups, and what is missing under which label."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import fisher_exact

from consilium.analytes import ANALYTES
from consilium.study import Modality
from training.audit.report import REMARK, UNUSABLE, Concern
from training.cohorts.cohort import Cohort, StudyRecord

LEAST_PATIENTS = 10
"""Of each class: with fewer a finding cannot be judged at all."""
WIDE = 0.10
"""Half-width of an AUROC's interval from which on it says little."""

_TYPICAL_AUROC = 0.8
_ERROR_RATE = 0.05
_BANDS = ((0, 18), (18, 40), (40, 65), (65, 200))


def support(cohort: Cohort) -> tuple[dict[str, pd.DataFrame], list[Concern]]:
    """Count what each finding can be learned from and judged on.

    Returns
    -------
    tables : dict of DataFrame
        ``support``: per finding and split studies and patients of each class, and the half-width of the 95 % interval
        of an AUROC of .8 that so many patients give; ``subgroups``: studies by sex, age and source; ``missingness``:
        share of positives and of negatives that lack a modality or value, with Holm's adjusted p.
    concerns : list of Concern
        `UNUSABLE` with fewer than `LEAST_PATIENTS` patients of a class; a remark where the interval is wider than
        `WIDE`, and where what is missing depends on the label.
    """
    counted = _support(cohort)
    missing = _missingness(cohort)
    tables = {"support": counted, "subgroups": _subgroups(cohort), "missingness": missing}
    return tables, [*_too_few(counted), *_telling(missing)]


def auroc_half_width(positives: int, negatives: int, auroc: float = _TYPICAL_AUROC) -> float:
    """Half-width of the 95 % interval of an AUROC (Hanley and McNeil, Radiology 1982); NaN without both classes."""
    if not positives or not negatives:
        return math.nan
    one, two = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    variance = auroc * (1 - auroc) + (positives - 1) * (one - auroc**2) + (negatives - 1) * (two - auroc**2)
    return 1.96 * math.sqrt(variance / (positives * negatives))


def _support(cohort: Cohort) -> pd.DataFrame:
    splits = np.array([record.split or "" for record in cohort.records])
    parts: dict[str, npt.NDArray[np.bool_]] = {"all": np.ones(len(cohort), bool)}
    parts |= {name: splits == name for name in dict.fromkeys(splits.tolist()) if name}
    lines = []
    for f, finding in enumerate(cohort.findings.names):
        for name, rows in parts.items():
            positive, negative = (_patients(cohort, rows & (cohort.labels[:, f] == value)) for value in (1, 0))
            line: dict[str, object] = {"finding": finding, "split": name}
            line |= {"positive_studies": int((rows & (cohort.labels[:, f] == 1)).sum())}
            line |= {"negative_studies": int((rows & (cohort.labels[:, f] == 0)).sum())}
            line |= {"positive_patients": positive, "negative_patients": negative}
            lines.append(line | {"auroc_half_width": auroc_half_width(positive, negative)})
    return pd.DataFrame(lines)


def _patients(cohort: Cohort, rows: npt.NDArray[np.bool_]) -> int:
    return len(np.unique(cohort.patient_ids[rows]))


def _subgroups(cohort: Cohort) -> pd.DataFrame:
    kinds = {
        "sex": [record.patient.sex.value or "unknown" for record in cohort.records],
        "age": [_band(record.patient.age) for record in cohort.records],
        "source": [record.source or "unknown" for record in cohort.records],
    }
    lines = []
    for kind, values in kinds.items():
        members = np.array(values)
        for group in sorted(set(values)):
            rows = members == group
            for f, finding in enumerate(cohort.findings.names):
                labels = cohort.labels[rows, f]
                counts = {"present": int((labels == 1).sum()), "absent": int((labels == 0).sum())}
                lines.append({"kind": kind, "group": group, "finding": finding, **counts})
    return pd.DataFrame(lines)


def _band(age: float | None) -> str:
    if age is None:
        return "unknown"
    low, high = next(band for band in _BANDS if band[0] <= age < band[1])
    return f"{low} and older" if high == _BANDS[-1][1] else f"{low} to {high - 1}"


def _missingness(cohort: Cohort) -> pd.DataFrame:
    lacking = _lacking(cohort)
    lines = []
    for f, finding in enumerate(cohort.findings.names):
        known = ~np.isnan(cohort.labels[:, f])
        positive = cohort.labels[known, f] == 1
        if not positive.any() or positive.all():
            continue
        for what, absent in lacking.items():
            gone = absent[known]
            cells = [[int((gone & side).sum()), int((~gone & side).sum())] for side in (positive, ~positive)]
            shares = [cell[0] / sum(cell) for cell in cells]
            line = {"finding": finding, "missing": what, "share_of_present": shares[0], "share_of_absent": shares[1]}
            lines.append(line | {"p": float(fisher_exact(cells)[1])})
    table = pd.DataFrame(lines)
    if len(table):
        table["adjusted_p"] = _holm(table["p"].to_numpy(float))
        table = table.sort_values("adjusted_p", kind="stable", ignore_index=True)
    return table


def _lacking(cohort: Cohort) -> Mapping[str, npt.NDArray[np.bool_]]:
    """What each study lacks, of all that some studies have and others have not."""

    def column(has: list[bool]) -> npt.NDArray[np.bool_]:
        return ~np.array(has, bool)

    records = cohort.records
    found = {
        Modality.IMAGE.value: column([bool(record.images) for record in records]),
        Modality.TEXT.value: column([bool(record.notes) for record in records]),
        "age": column([record.patient.age is not None for record in records]),
        "sex": column([record.patient.sex.value in ("F", "M") for record in records]),
    }
    names = sorted({o.analyte for record in records for o in record.observations})
    found |= {ANALYTES[name].display: column([_measured(record, name) for record in records]) for name in names}
    return {what: absent for what, absent in found.items() if absent.any() and not absent.all()}


def _measured(record: StudyRecord, analyte: str) -> bool:
    return any(o.analyte == analyte and not o.implausible for o in record.observations)


def _holm(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Adjusted p-values (Holm, Scandinavian Journal of Statistics 1979)."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))), 1.0)
    return adjusted


def _too_few(counted: pd.DataFrame) -> list[Concern]:
    concerns = []
    for line in counted[counted["split"] == "all"].to_dict("records"):
        positive, negative, width = line["positive_patients"], line["negative_patients"], line["auroc_half_width"]
        said = f"{line['finding']}: {positive} patients with it and {negative} without"
        if min(positive, negative) < LEAST_PATIENTS:
            text = f"{said}; it cannot be judged with fewer than {LEAST_PATIENTS} of each."
            concerns.append(Concern("support", UNUSABLE, text, line["finding"]))
        elif width > WIDE:
            text = f"{said}; an AUROC of .8 would be known to within {width:.2f} only."
            concerns.append(Concern("support", REMARK, text, line["finding"]))
    return concerns


def _telling(missing: pd.DataFrame) -> list[Concern]:
    if missing.empty:
        return []
    concerns = []
    for finding, table in missing[missing["adjusted_p"] < _ERROR_RATE].groupby("finding", sort=False):
        names = ", ".join(table["missing"].head(5))
        text = f"{finding}: whether it is recorded depends on the label for {len(table)} of the inputs ({names})."
        concerns.append(Concern("missingness", REMARK, text, str(finding)))
    return concerns
