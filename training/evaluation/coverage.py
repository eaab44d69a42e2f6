"""Coverage: how often prediction sets hold the truth, class by class, beside the band in which that must lie.

Where the threshold of a class is the k-th of n judges' scores, the share of new studies of that class that it covers
follows Beta(k, n + 1 - k), and the count among m of them a beta-binomial distribution: no model, however bad, may miss
its band more often than once in twenty times, and none can help missing it that often (Vovk, Conditional validity of
inductive conformal predictors, Machine Learning 2013). Studies of one patient count as if they were of several: where
patients have many, the band is too narrow.
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
    """Sets and intervals of N studies, each heard through what it has.

    Attributes
    ----------
    coverage : float
        What the sets were made for.
    subsets : str [N]
    sets : bool [N, F, 2]
        Which of (absent, present) is not ruled out; both where nothing was heard.
    intervals : float [N, F, 2]
        NaN where nothing was heard.
    judged_with : str [N, F]
        The subsets that share the judges of this study, which one name tells apart from others.
    judges : int [N, F, 2]
        How many studies of each class judged.
    """

    coverage: float
    subsets: npt.NDArray[np.str_]
    sets: npt.NDArray[np.bool_]
    intervals: npt.NDArray[np.float64]
    judged_with: npt.NDArray[np.str_]
    judges: npt.NDArray[np.int64]

    @classmethod
    def of(cls, predictions: Predictions, calibration: Calibration) -> SetAnswers:
        subsets, shape = predictions.subsets, predictions.labels.shape
        sets, intervals = np.ones((*shape, 2), bool), np.full((*shape, 2), np.nan)
        names, judges = np.full(shape, NO_MODALITY, object), np.zeros((*shape, 2), np.int64)
        for subset, logits in predictions.fused.items():
            here = subsets == subset
            sets[here] = calibration.prediction_sets(logits[here], subset)
            intervals[here] = calibration.intervals(logits[here], subset)
            for f in range(shape[1]):
                bench = calibration.conformal.of(f, subset)
                names[here, f] = ", ".join(bench.subsets) or subset
                judges[here, f] = bench.absent, bench.present
        return cls(calibration.conformal.coverage, subsets, sets, intervals, names.astype(np.str_), judges)

    @classmethod
    def concatenate(cls, parts: Sequence[SetAnswers]) -> SetAnswers:
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__[1:]}
        return cls(parts[0].coverage, **columns)


def coverage_table(
    findings: FindingSet, labels: npt.NDArray, answers: SetAnswers, *, out_of_fold: bool = False
) -> pd.DataFrame:
    """One line per finding, class and subset: what was covered, and by what sets.

    Columns: finding, class, subset (``as_present``: all), n, judges, coverage, band_low, band_high, in_band, set_size,
    both, empty, interval_width. Subsets that are judged together have a line each without a band, and one together with
    it. Findings that exclude each other have one set of classes: only the lines of ``present`` are there, `set_size`
    counts classes and `both` the sets of several.

    Parameters
    ----------
    labels : float [N, F]
        1 present, 0 absent, NaN unknown.
    out_of_fold : bool
        The studies were judged by different, overlapping judges. The band is then the widest that a single threshold
        on any number of them has. Where some have too few to rule anything out, they cover every study: the band
        reaches up to all.
    """
    lines = []
    heard = answers.subsets != NO_MODALITY
    for f, finding in enumerate(findings):
        for answer, name in enumerate((ABSENT, PRESENT)):
            if findings.exclusive and name == ABSENT:
                continue
            there = heard & (labels[:, f] == answer)
            for subset, rows, banded in _groups(answers, f, there):
                line: dict[str, object] = {"finding": finding.name, "class": name, "subset": subset}
                line |= _covered(answers, f, answer, rows, exclusive=findings.exclusive)
                band = _band(answers, f, answer, rows, out_of_fold=out_of_fold) if banded else None
                lines.append(line | _band_columns(band, answers.sets[rows, f, answer]))
    columns = ["finding", "class", "subset", "n", "judges", "coverage", "band_low", "band_high", "in_band"]
    return pd.DataFrame(lines)[[*columns, "set_size", "both", "empty", "interval_width"]]


def coverage_band(groups: Sequence[tuple[int, int]], coverage: float) -> tuple[int, int]:
    """Fewest and most covered studies in 95 % of all cases, of groups of (studies, judges) that share no judge."""
    chances = np.ones(1)
    for studies, judges in groups:
        rank = quantile_rank(judges, coverage)
        if rank > judges:
            one = np.zeros(studies + 1)
            one[-1] = 1.0
        else:
            one = betabinom.pmf(np.arange(studies + 1), studies, rank, judges + 1 - rank)
        chances = np.convolve(chances, one)
    below = np.cumsum(chances / chances.sum())
    low, high = np.searchsorted(below, _BAND)
    return int(low), int(min(high, len(below) - 1))


def _groups(answers: SetAnswers, f: int, there: npt.NDArray[np.bool_]) -> list[tuple[str, npt.NDArray[np.bool_], bool]]:
    """Name and studies of every line, and whether they are all that their judges judge."""
    groups = [(ALL_PRESENT, there, True)]
    for names in dict.fromkeys(answers.judged_with[there, f].tolist()):
        rows = there & (answers.judged_with[:, f] == names)
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
    judges = sorted(set(answers.judges[rows, f, answer].tolist()))
    figures = (own[:, f, answer], size, size > 1, size == 0, np.diff(answers.intervals[rows, f])[:, 0])
    means = [float(part.mean()) if count else np.nan for part in figures]
    names = ("coverage", "set_size", "both", "empty", "interval_width")
    return {"n": count, "judges": "/".join(map(str, judges)), **dict(zip(names, means, strict=True))}


def _band(
    answers: SetAnswers, f: int, answer: int, rows: npt.NDArray[np.bool_], *, out_of_fold: bool
) -> tuple[int, int]:
    benches = np.stack([answers.judged_with[rows, f], answers.judges[rows, f, answer].astype(np.str_)])
    (_, judges), studies = np.unique(benches, axis=1, return_counts=True)
    groups = [(int(m), int(n)) for m, n in zip(studies, judges, strict=True)]
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
