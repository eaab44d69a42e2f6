"""Folds drawn several times: what of a cross-validation's figures is the model's, and what is the draw's.

Intervals over patients say how the figures would differ with other patients, given the draw. How they differ with
another draw stands beside: the lowest and the highest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit, logit

from consilium.calibration import patient_bootstrap, percentile_interval
from training.evaluation.comparisons import MACRO, estimate_columns
from training.evaluation.metrics import Measured, Replicates, Sample, macro
from training.evaluation.results import Evaluation
from training.evaluation.rows import AS_PRESENT, Row, RowKind

Rows = Mapping[Row, npt.NDArray]

_LEAST = 1e-12


def with_repeats(evaluation: Evaluation, others: Sequence[Rows], *, bootstrap: int, seed: int) -> Evaluation:
    """`evaluation` with the answers of other draws of the folds, and the table ``repeats`` of them all.

    Parameters
    ----------
    others : sequence of mapping of Row to float [N, F]
        Of the same studies in the same order; none: `evaluation` is given back.
    bootstrap : int
        Replicates over patients.
    """
    if not others:
        return evaluation
    own = {row: values for row, values in evaluation.probabilities.items() if row.kind is not RowKind.ORACLE}
    draws = (own, *({row: drawn[row] for row in own} for drawn in others))
    table = repeats_table(evaluation, draws, bootstrap=bootstrap, seed=seed)
    return replace(evaluation, repeats=draws, tables={**evaluation.tables, "repeats": table})


def repeats_table(evaluation: Evaluation, draws: Sequence[Rows], *, bootstrap: int, seed: int) -> pd.DataFrame:
    """AUROC of each row and finding over all draws.

    Returns
    -------
    DataFrame
        Columns ``row``, ``finding``, ``n``, ``positives``, ``draws``; ``auroc``, the mean over the draws, with its
        interval over patients; ``lowest`` and ``highest`` of a draw; ``averaged_auroc`` of each study's mean log-odds
        over the draws, with its interval; and ``auroc_difference``, how much the fused model's mean is higher on the
        studies that both answer, with its interval.
    """
    sample = Sample(evaluation.labels, patient_bootstrap(evaluation.patient_ids, bootstrap, seed))
    lines = []
    for row in draws[0]:
        each = [_by_finding(evaluation, sample, drawn[row]) for drawn in draws]
        averaged = _by_finding(evaluation, sample, average(draws, row))
        gained = _gained(evaluation, sample, draws, row)
        for name, first in each[0].items():
            aurocs = [_auroc(measured[name]) for measured in each]
            line: dict[str, Any] = {"row": row, "finding": name, "n": first.n, "positives": first.positives}
            line |= {"draws": len(draws)} | estimate_columns("auroc", percentile_interval(np.mean(aurocs, axis=0)))
            line |= {"lowest": min(one[0] for one in aurocs), "highest": max(one[0] for one in aurocs)}
            line |= estimate_columns("averaged_auroc", percentile_interval(_auroc(averaged[name])))
            lines.append(line | estimate_columns("auroc_difference", percentile_interval(gained[name])))
    return pd.DataFrame(lines)


def average(draws: Sequence[Rows], row: Row) -> npt.NDArray[np.float64]:
    """Probabilities [N, F] by the mean log-odds over the draws that answer; NaN where none does."""
    scores = np.stack([logit(np.clip(drawn[row], _LEAST, 1 - _LEAST)) for drawn in draws])
    known = ~np.isnan(scores)
    count = known.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return expit(np.where(known, scores, 0.0).sum(axis=0) / np.where(count > 0, count, np.nan))


def _gained(evaluation: Evaluation, sample: Sample, draws: Sequence[Rows], row: Row) -> dict[str, Replicates]:
    """AUROC of the fused model less that of `row`, mean over the draws, by finding."""
    gained: list[dict[str, Replicates]] = []
    for drawn in draws:
        first, second = drawn[AS_PRESENT], drawn[row]
        both = ~np.isnan(first) & ~np.isnan(second)
        ours, theirs = (_by_finding(evaluation, sample, np.where(both, one, np.nan)) for one in (first, second))
        gained.append({name: _auroc(ours[name]) - _auroc(theirs[name]) for name in ours})
    return {name: np.mean([one[name] for one in gained], axis=0) for name in gained[0]}


def _by_finding(evaluation: Evaluation, sample: Sample, probabilities: npt.NDArray) -> dict[str, Measured]:
    measured = sample.measure(probabilities)
    return dict(zip(evaluation.findings.names, measured, strict=True)) | {MACRO: macro(measured)}


def _auroc(measured: Measured) -> Replicates:
    return measured.figures["auroc"]
