"""Whether a model serves some patients worse: its figures by sex, age, source and records, and the widest gap of each.

fairlearn's `MetricFrame` groups and takes the differences; the intervals are by bootstrap over patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from fairlearn.metrics import MetricFrame
from sklearn.metrics import roc_auc_score

from consilium.calibration import patient_bootstrap
from consilium.domain.study import Study
from consilium.domain.variables import BUILT_IN, VariableTable
from consilium.monitoring.categories import age_band
from training.cohorts.cohort import StudyRecord
from training.evaluation.comparisons import estimate_columns
from training.evaluation.metrics import Sample, interval
from training.evaluation.results import ScoredStudies
from training.evaluation.rows import AS_PRESENT
from training.training_side import training_sides

LEAST_OF_EACH_CLASS = 10
"""Positives and negatives; a smaller group is counted, and its figures are left out."""

_METRICS = ("auroc", "sensitivity", "specificity")


def study_groups(
    records: Sequence[StudyRecord], studies: Sequence[Study], variables: VariableTable = BUILT_IN
) -> dict[str, npt.NDArray[np.str_]]:
    """Sex, age band, source and what each modality groups studies by, [N] each; ``unknown`` where it is not known.

    Parameters
    ----------
    records : sequence of StudyRecord
    studies : sequence of Study
        The same studies with what was read of their files.
    variables : VariableTable
        Of the cohort.
    """
    groups = {
        "sex": np.array([record.patient.sex.name.lower() for record in records]),
        "age": np.array([age_band(record.patient.age) for record in records]),
    }
    for side in training_sides():
        groups |= side.subgroups(studies, variables)
    return groups | {"source": np.array([record.source or "unknown" for record in records])}


def subgroup_tables(
    scored: ScoredStudies, groups: Mapping[str, npt.NDArray[np.str_]], *, bootstrap: int, seed: int
) -> dict[str, pd.DataFrame]:
    """``subgroups``: figures of each group; ``gaps``: the widest difference between two groups of each kind.

    Parameters
    ----------
    scored : ScoredStudies
        Its row `AS_PRESENT` is measured.
    groups : mapping of kind to str [N]
        Group of each study of `scored`.
    bootstrap, seed : int
        Replicates over patients.

    Returns
    -------
    dict of DataFrame
        ``subgroups``: kind, group, finding, n, positives, auroc, sensitivity and specificity at the operating point,
        each with _low and _high; NaN where a class has fewer than `LEAST_OF_EACH_CLASS` studies. ``gaps``: kind,
        finding, metric, gap, worst, best.
    """
    weights = patient_bootstrap(scored.patient_ids, bootstrap, seed)
    lines: list[dict[str, object]] = []
    gaps: list[dict[str, object]] = []
    for kind, members in groups.items():
        if len(set(members.tolist())) < 2:
            continue
        for f, finding in enumerate(scored.findings.names):
            found = _groups_of(scored, f, kind, members, weights)
            lines += [{"kind": kind, "finding": finding, **line} for line in found]
            gaps += [{"kind": kind, "finding": finding, **gap} for gap in _gaps(scored, f, members)]
    return {"subgroups": pd.DataFrame(lines), "gaps": pd.DataFrame(gaps)}


def _groups_of(
    scored: ScoredStudies, f: int, kind: str, members: npt.NDArray[np.str_], weights: npt.NDArray
) -> list[dict[str, object]]:
    probabilities = scored.probabilities[AS_PRESENT][:, [f]]
    called = probabilities >= scored.thresholds[:, [f]]
    lines = []
    for group in sorted(set(members.tolist())):
        rows = members == group
        sample = Sample(scored.labels[rows][:, [f]], weights[:, rows])
        [measured] = sample.measure(probabilities[rows], called[rows])
        enough = min(measured.positives, measured.n - measured.positives) >= LEAST_OF_EACH_CLASS
        line: dict[str, object] = {"group": group, "n": measured.n, "positives": measured.positives}
        for metric in _METRICS:
            values = measured.figures[metric] if enough else np.full(2, np.nan)
            line |= estimate_columns(metric, interval(metric, values))
        lines.append(line)
    return lines


def _gaps(scored: ScoredStudies, f: int, members: npt.NDArray[np.str_]) -> list[dict[str, object]]:
    """Widest difference of each metric between two groups that are large enough."""
    probabilities = scored.probabilities[AS_PRESENT][:, f]
    known = ~np.isnan(probabilities) & ~np.isnan(scored.labels[:, f])
    positive = scored.labels[:, f] == 1
    enough = [
        group
        for group in sorted(set(members.tolist()))
        if min((known & positive & (members == group)).sum(), (known & ~positive & (members == group)).sum())
        >= LEAST_OF_EACH_CLASS
    ]
    rows = known & np.isin(members, enough)
    if len(enough) < 2:
        return []
    called = probabilities >= scored.thresholds[:, f]
    ranked = MetricFrame(
        metrics={"auroc": roc_auc_score},
        y_true=positive[rows],
        y_pred=probabilities[rows],
        sensitive_features=members[rows],
    )
    at_point = MetricFrame(
        metrics={"sensitivity": _sensitivity, "specificity": _specificity},
        y_true=positive[rows],
        y_pred=called[rows],
        sensitive_features=members[rows],
    )
    found = []
    for frame in (ranked, at_point):
        for metric, gap in frame.difference(method="between_groups").items():
            by_group = frame.by_group[metric].astype(float)
            worst, best = str(by_group.idxmin()), str(by_group.idxmax())
            found.append({"metric": str(metric), "gap": float(gap), "worst": worst, "best": best})
    return found


def _sensitivity(positive: npt.NDArray, called: npt.NDArray) -> float:
    return float(np.mean(np.asarray(called)[np.asarray(positive, bool)]))


def _specificity(positive: npt.NDArray, called: npt.NDArray) -> float:
    return float(np.mean(~np.asarray(called, bool)[~np.asarray(positive, bool)]))
