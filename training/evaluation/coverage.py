"""Coverage: how often prediction sets hold the truth, class by class, beside the band in which that must lie.

Where the threshold of a class is the k-th of the scores of n calibration studies, the share of new studies of that
class that it covers follows Beta(k, n + 1 - k), and the count among m of them a beta-binomial distribution: no model,
however bad, may miss its band more often than once in twenty times, and none can help missing it that often (Vovk,
Conditional validity of inductive conformal predictors, Machine Learning 2013). Studies of one patient count as if they
were of several: where patients have many, the band is too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import betabinom

from consilium.calibration import NO_MODALITY, Calibration, quantile_rank
from consilium.domain.diagnosis import ABSENT, PRESENT
from consilium.domain.findings import FindingSet
from training.evaluation.predictions import Predictions
from training.evaluation.rows import ALL_PRESENT

_BAND = (0.025, 0.975)


@dataclass(frozen=True, slots=True, eq=False)
class SetAnswers:
    """Sets and intervals of N studies, each from what it has.

    Attributes
    ----------
    coverage : float
        What the sets were made for.
    subsets : str [N]
    sets : bool [N, F, 2]
        Which of (absent, present) is not ruled out; both where nothing was read.
    intervals : float [N, F, 2]
        NaN where nothing was read.
    shared_by : str [N, F]
        The subsets that share the threshold of this study, by one name.
    fitted_on : int [N, F, 2]
        How many calibration studies of each class the threshold was set on.
    """

    coverage: float
    subsets: npt.NDArray[np.str_]
    sets: npt.NDArray[np.bool_]
    intervals: npt.NDArray[np.float64]
    shared_by: npt.NDArray[np.str_]
    fitted_on: npt.NDArray[np.int64]

    @classmethod
    def of(cls, predictions: Predictions, calibration: Calibration) -> SetAnswers:
        subsets, shape = predictions.subsets, predictions.labels.shape
        sets, intervals = np.ones((*shape, 2), bool), np.full((*shape, 2), np.nan)
        names, fitted_on = np.full(shape, NO_MODALITY, object), np.zeros((*shape, 2), np.int64)
        for subset, logits in predictions.fused.items():
            here = subsets == subset
            sets[here] = calibration.prediction_sets(logits[here], subset)
            intervals[here] = calibration.intervals(logits[here], subset)
            for f in range(shape[1]):
                of_subset = calibration.conformal.of(f, subset)
                names[here, f] = ", ".join(of_subset.subsets) or subset
                fitted_on[here, f] = of_subset.absent, of_subset.present
        return cls(calibration.conformal.coverage, subsets, sets, intervals, names.astype(np.str_), fitted_on)

    @classmethod
    def concatenate(cls, parts: Sequence[SetAnswers]) -> SetAnswers:
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__[1:]}
        return cls(parts[0].coverage, **columns)


def coverage_table(
    findings: FindingSet, labels: npt.NDArray, answers: SetAnswers, *, out_of_fold: bool = False
) -> pd.DataFrame:
    """One line per finding, class and subset: what was covered, and by what sets.

    Columns: finding, class, subset (``as_present``: all), n, fitted_on, coverage, band_low, band_high, in_band,
    set_size, both, empty, interval_width. Subsets that share a threshold have a line each without a band, and one
    together with it. Findings that exclude each other have one set of classes: only the lines of ``present`` are there,
    `set_size` counts classes and `both` the sets of several.

    Parameters
    ----------
    labels : float [N, F]
        1 present, 0 absent, NaN unknown.
    out_of_fold : bool
        The thresholds were set on different, overlapping studies. The band is then the widest that a single threshold
        on any number of them has. Thresholds on too few studies rule nothing out and cover every study: the band
        reaches up to all.
    """
    lines = []
    read = answers.subsets != NO_MODALITY
    for f, finding in enumerate(findings):
        for answer, name in enumerate((ABSENT, PRESENT)):
            if findings.exclusive and name == ABSENT:
                continue
            there = read & (labels[:, f] == answer)
            for subset, rows, banded in _groups(answers, f, there):
                line: dict[str, object] = {"finding": finding.name, "class": name, "subset": subset}
                line |= _covered(answers, f, answer, rows, exclusive=findings.exclusive)
                band = _band(answers, f, answer, rows, out_of_fold=out_of_fold) if banded else None
                lines.append(line | _band_columns(band, answers.sets[rows, f, answer]))
    columns = ["finding", "class", "subset", "n", "fitted_on", "coverage", "band_low", "band_high", "in_band"]
    return pd.DataFrame(lines)[[*columns, "set_size", "both", "empty", "interval_width"]]


def coverage_band(groups: Sequence[tuple[int, int]], coverage: float) -> tuple[int, int]:
    """Fewest and most covered studies in 95 % of all cases, of groups of studies, each with the number that its
    threshold was set on; no two share a threshold.
    """
    chances = np.ones(1)
    for studies, fitted_on in groups:
        rank = quantile_rank(fitted_on, coverage)
        if rank > fitted_on:
            one = np.zeros(studies + 1)
            one[-1] = 1.0
        else:
            one = betabinom.pmf(np.arange(studies + 1), studies, rank, fitted_on + 1 - rank)
        chances = np.convolve(chances, one)
    below = np.cumsum(chances / chances.sum())
    low, high = np.searchsorted(below, _BAND)
    return int(low), int(min(high, len(below) - 1))


def _groups(answers: SetAnswers, f: int, there: npt.NDArray[np.bool_]) -> list[tuple[str, npt.NDArray[np.bool_], bool]]:
    """Name and studies of every line, and whether they are all that share their threshold."""
    groups = [(ALL_PRESENT, there, True)]
    for names in dict.fromkeys(answers.shared_by[there, f].tolist()):
        rows = there & (answers.shared_by[:, f] == names)
        members = list(dict.fromkeys(answers.subsets[rows].tolist()))
        alone = members == [names]
        if not alone:
            groups.append((f"{names} together", rows, True))
        groups += [(member, rows & (answers.subsets == member), alone) for member in members]
    return groups


def _covered(
    answers: SetAnswers, f: int, answer: int, rows: npt.NDArray[np.bool_], *, exclusive: bool
) -> dict[str, object]:
    own, count = answers.sets[rows], int(rows.sum())
    size = own[..., 1].sum(axis=1) if exclusive else own[:, f].sum(axis=1)
    fitted_on = sorted(set(answers.fitted_on[rows, f, answer].tolist()))
    figures = (own[:, f, answer], size, size > 1, size == 0, np.diff(answers.intervals[rows, f])[:, 0])
    means = [float(part.mean()) if count else np.nan for part in figures]
    names = ("coverage", "set_size", "both", "empty", "interval_width")
    return {"n": count, "fitted_on": "/".join(map(str, fitted_on)), **dict(zip(names, means, strict=True))}


def _band(
    answers: SetAnswers, f: int, answer: int, rows: npt.NDArray[np.bool_], *, out_of_fold: bool
) -> tuple[int, int]:
    thresholds = np.stack([answers.shared_by[rows, f], answers.fitted_on[rows, f, answer].astype(np.str_)])
    (_, fitted_on), studies = np.unique(thresholds, axis=1, return_counts=True)
    groups = [(int(m), int(n)) for m, n in zip(studies, fitted_on, strict=True)]
    if not out_of_fold or not groups:
        return coverage_band(groups, answers.coverage)
    everyone = sum(m for m, _ in groups)
    bands = [coverage_band([(everyone, n)], answers.coverage) for n in {n for _, n in groups}]
    return min(low for low, _ in bands), max(high for _, high in bands)


def _band_columns(band: tuple[int, int] | None, holds: npt.NDArray[np.bool_]) -> dict[str, object]:
    if band is None or not len(holds):
        return {"band_low": np.nan, "band_high": np.nan, "in_band": None}
    low, high = band
    return {
        "band_low": low / len(holds),
        "band_high": high / len(holds),
        "in_band": bool(low <= holds.sum() <= high),
    }
