"""Paired comparisons: what a modality adds, what a baseline lacks, how near a model comes to the best possible answer.

Two rows are compared on the studies that both answer, under the same replicates, so that what is hard about these
studies cancels out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from consilium.calibration import percentile_interval
from consilium.domain.diagnosis import Estimate
from consilium.domain.findings import FindingSet
from training.evaluation.metrics import Measured, Replicates, Sample, entropy, macro
from training.evaluation.rows import Row

MACRO = "macro"
"""In place of a finding's name: the mean over findings."""

FALSE_ALARM_RATE = 0.05
"""Chance that a sound model is called a leak, over all findings, rows and metrics together."""

_FEWEST = 10  # positives and negatives; fewer give no standard error to speak of


def estimate_columns(name: str, estimate: Estimate) -> dict[str, float]:
    """The three columns of a figure: ``auroc``, ``auroc_low``, ``auroc_high``."""
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def paired_differences(
    findings: FindingSet, sample: Sample, rows: Mapping[Row, npt.NDArray], pairs: Sequence[tuple[Row, Row]]
) -> pd.DataFrame:
    """First minus second of each pair, per finding and macro: AUROC (above 0 is better) and NLL (below 0 is better).

    Columns: row, against, finding, n, positives, auroc_difference, nll_difference, each with _low and _high.
    """
    lines = []
    for row, against in pairs:
        both = _on_common_studies(sample, rows[row], rows[against])
        first, second = (_named(findings, measured) for measured in both)
        for name, one in first.items():
            other = second[name]
            line = {"row": row, "against": against, "finding": name, "n": one.n, "positives": one.positives}
            for metric in ("auroc", "nll"):
                difference = one.figures[metric] - other.figures[metric]
                line |= estimate_columns(f"{metric}_difference", percentile_interval(difference))
            lines.append(line)
    return pd.DataFrame(lines)


def oracle_shares(
    findings: FindingSet, sample: Sample, rows: Mapping[Row, npt.NDArray], oracle: Mapping[Row, npt.NDArray]
) -> pd.DataFrame:
    """What part of the possible each row reaches, per finding and macro, on the same studies as its oracle.

    ``auroc_share`` is (AUROC - .5) / (oracle AUROC - .5), ``information_share`` (H(y) - NLL) / (H(y) - NLL of the
    oracle) with H(y) the entropy of the labels; the macro shares are ratios of the means.

    Parameters
    ----------
    rows, oracle : mapping of Row to float [N, F]
        Probabilities; each row of `rows` has its oracle under the same name.
    """
    lines = []
    for row, probabilities in rows.items():
        both = _on_common_studies(sample, probabilities, oracle[row])
        blank = _label_entropies(sample, probabilities, oracle[row])
        models, bests, blanks = (_named(findings, measured) for measured in (*both, blank))
        for name, model in models.items():
            best, h = bests[name].figures, blanks[name].figures["nll"]
            with np.errstate(invalid="ignore", divide="ignore"):
                auroc_share = (model.figures["auroc"] - 0.5) / (best["auroc"] - 0.5)
                information_share = (h - model.figures["nll"]) / (h - best["nll"])
            line = {"row": row, "finding": name, "n": model.n, "positives": model.positives}
            line |= {"auroc": model.figures["auroc"][0], "oracle_auroc": best["auroc"][0]}
            line |= estimate_columns("auroc_share", percentile_interval(auroc_share))
            line |= {"nll": model.figures["nll"][0], "oracle_nll": best["nll"][0], "entropy": h[0]}
            line |= estimate_columns("information_share", percentile_interval(information_share))
            lines.append(line)
    return pd.DataFrame(lines)


def find_leaks(
    findings: FindingSet, sample: Sample, rows: Mapping[Row, npt.NDArray], oracle: Mapping[Row, npt.NDArray]
) -> list[str]:
    """Where a model is significantly better than the best possible answer, one sentence each.

    The lower bound of the paired difference (AUROC gained, NLL saved) is taken from its bootstrap standard error, one
    sided, at `FALSE_ALARM_RATE` over the number of tests (Bonferroni): so far out a percentile of the replicates would
    rest on one or two of them. Findings with fewer than ten positives or negatives among the studies are not tested.
    """
    tests = []
    for row, probabilities in rows.items():
        both = _on_common_studies(sample, probabilities, oracle[row])
        for finding, model, best in zip(findings, *both, strict=True):
            if min(model.positives, model.n - model.positives) >= _FEWEST:
                tests.append((row, finding.name, "AUROC", model.figures["auroc"] - best.figures["auroc"]))
                tests.append((row, finding.name, "NLL", best.figures["nll"] - model.figures["nll"]))
    # Of fewer than two replicates there is no standard error.
    if not tests or len(tests[0][3]) < 3:
        return []
    distance = float(norm.isf(FALSE_ALARM_RATE / len(tests)))
    leaks = []
    for row, name, metric, gained in tests:
        lower = gained[0] - distance * np.nanstd(gained[1:], ddof=1)
        if lower > 0:
            leaks.append(f"{row}, {name}: {metric} better than the oracle's by {gained[0]:.3f}, at least {lower:.3f}")
    return leaks


def leave_one_out_pairs(subsets: Sequence[str]) -> list[tuple[str, str]]:
    """The largest of `subsets` beside each one that lacks a single modality of it."""
    largest = max(subsets, key=lambda subset: subset.count("+"))
    everything = set(largest.split("+"))
    return [
        (largest, subset)
        for subset in subsets
        if set(subset.split("+")) < everything and subset.count("+") == largest.count("+") - 1
    ]


def _on_common_studies(
    sample: Sample, first: npt.NDArray, second: npt.NDArray
) -> tuple[list[Measured], list[Measured]]:
    known = ~np.isnan(first) & ~np.isnan(second)
    return tuple(sample.measure(np.where(known, values, np.nan)) for values in (first, second))  # type: ignore[return-value]


def _label_entropies(sample: Sample, first: npt.NDArray, second: npt.NDArray) -> list[Measured]:
    known = ~np.isnan(first) & ~np.isnan(second) & ~np.isnan(sample.labels)
    entropies = []
    for labels, rows in zip(sample.labels.T, known.T, strict=True):
        positive = labels[rows] == 1
        figures: dict[str, Replicates] = {"nll": entropy(positive, sample.weights[:, rows])}
        entropies.append(Measured(len(positive), int(positive.sum()), figures))
    return entropies


def _named(findings: FindingSet, measured: Sequence[Measured]) -> dict[str, Measured]:
    """By finding, then the mean over them where there is more than one."""
    named = dict(zip(findings.names, measured, strict=True))
    return named | {MACRO: macro(measured)}
