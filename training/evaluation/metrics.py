"""Metrics of one finding, with bootstrap replicates: every figure is computed for all replicates at once.

A replicate is a row of weights: how often each study counts. The first row is the sample itself, so that a figure and
its interval come from the same code. Weights are drawn by patient (`consilium.calibration.patient_bootstrap`); figures
of different models under the same weights are paired. A replicate that lacks a class has NaN where a metric needs both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from consilium.calibration import percentile_interval
from consilium.domain.diagnosis import Estimate

Floats = npt.NDArray[np.float64]
Replicates = npt.NDArray[np.float64]
"""A figure in the sample and in each replicate, [1 + R]."""

RANKING = ("auroc", "auprc")
AT_OPERATING_POINT = ("sensitivity", "specificity", "precision", "f1")
PROPER = ("brier", "ece", "nll")
METRICS = (*RANKING, *AT_OPERATING_POINT, *PROPER)
WITHIN_FOLDS = "auroc_within"
"""AUROC over the pairs of studies of one fold, which one model answers; of a cross-validation alone."""
BY_CHANCE = "ece_by_chance"
"""What the ECE of perfectly calibrated probabilities would be on as many studies."""

_BINS = 10
_CHUNK = 32  # replicates at a time: their cumulative sums stay in the processor's cache
_LEAST_PROBABILITY = float(np.finfo(np.float64).eps)  # as scikit-learn's log_loss


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of one finding, or of the mean over findings.

    Attributes
    ----------
    n, positives : int
        Studies with a label and a probability.
    figures : dict
        Metric → [1 + R].
    """

    n: int
    positives: int
    figures: dict[str, Replicates]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Labels of the studies that are measured, and the replicates of them.

    Attributes
    ----------
    labels : float [N, F]
        1 present, 0 absent, NaN unknown.
    weights : float [1 + R, N]
    folds : int [N] or None
        Of a cross-validation, the fold of each study; then AUROC is also measured within folds.
    """

    labels: npt.NDArray
    weights: Floats
    folds: npt.NDArray[np.int64] | None = None

    def measure(self, probabilities: npt.NDArray, called: npt.NDArray[np.bool_] | None = None) -> list[Measured]:
        """Metrics of each finding, [F], over the studies with a label and a probability.

        Parameters
        ----------
        probabilities : float [N, F]
            NaN where there is none.
        called : bool [N, F] or None
        """
        known = ~np.isnan(self.labels) & ~np.isnan(probabilities)
        measured = []
        for f, rows in enumerate(known.T):
            labels = self.labels[rows, f]
            weights = self.weights if rows.all() else self.weights[:, rows]
            calls = None if called is None else called[rows, f]
            figures = finding_metrics(labels, probabilities[rows, f], calls, weights)
            if self.folds is not None:
                figures[WITHIN_FOLDS] = within_folds(labels == 1, probabilities[rows, f], weights, self.folds[rows])
            measured.append(Measured(len(labels), int((labels == 1).sum()), figures))
        return measured


def macro(measured: Sequence[Measured]) -> Measured:
    """Mean over the findings that the sample has both classes of; the same findings in every replicate.

    Its `n` is the largest of the findings', its `positives` their sum.
    """
    able = [finding for finding in measured if 0 < finding.positives < finding.n] or list(measured)
    figures = {name: np.mean([finding.figures[name] for finding in able], axis=0) for name in able[0].figures}
    return Measured(max(finding.n for finding in measured), sum(finding.positives for finding in measured), figures)


def finding_metrics(
    labels: npt.NDArray, probabilities: npt.NDArray, called: npt.NDArray[np.bool_] | None, weights: npt.NDArray
) -> dict[str, Replicates]:
    """Every metric of `METRICS` and `BY_CHANCE`, each [1 + R]; at the operating point only where `called` is given.

    Parameters
    ----------
    labels : float [N]
        1 present, 0 absent; none unknown.
    probabilities : float [N]
    called : bool [N] or None
        Whether the probability reaches its operating point.
    weights : float [1 + R, N]

    Notes
    -----
    Agrees with scikit-learn's ``roc_auc_score``, ``average_precision_score``, ``brier_score_loss`` and ``log_loss``
    under the same sample weights. ECE: mean absolute difference of frequency and mean probability over ten bins of
    equal mass, weighted by mass (Naeini et al., AAAI 2015); the bins are those of the sample in every replicate. It is
    not debiased: chance keeps it above 0 even where every probability is right. How far is `BY_CHANCE`, the same for
    the sample and every replicate; an ECE that does not exceed it shows nothing.
    """
    positive = labels == 1
    figures = ranking(positive, probabilities, weights)
    if called is not None:
        figures |= confusion(positive, called, weights)
    total = weights.sum(axis=1)
    with np.errstate(invalid="ignore"):
        figures["brier"] = weights @ (probabilities - positive) ** 2 / total
        bins = np.eye(_BINS)[equal_mass_bins(probabilities)]
        figures["ece"] = np.abs(weights @ (bins * (positive - probabilities)[:, None])).sum(axis=1) / total
        figures[BY_CHANCE] = np.full(len(total), _expected_gaps(bins, probabilities)) / len(labels)
        figures["nll"] = weights @ surprise(positive, probabilities) / total
    return figures


def _expected_gaps(bins: Floats, probabilities: npt.NDArray) -> float:
    """Expected sum of the bins' absolute gaps if labels were drawn from `probabilities`; normal approximation."""
    variance = bins.T @ (probabilities * (1 - probabilities))
    return float(np.sqrt(2 / np.pi * variance).sum())


def ranking(positive: npt.NDArray[np.bool_], scores: npt.NDArray, weights: npt.NDArray) -> dict[str, Replicates]:
    """AUROC (ties count half) and AUPRC (average precision), each [1 + R]: one sort, then cumulative sums."""
    order = np.argsort(-scores, kind="stable")
    descending = scores[order]
    # A threshold lies below each group of tied scores.
    ends = np.flatnonzero(np.append(descending[1:] != descending[:-1], True)) if len(scores) else np.array([], int)
    is_positive = positive[order].astype(np.float64)[:, None]
    figures: dict[str, list[Floats]] = {name: [] for name in RANKING}
    for start in range(0, len(weights), _CHUNK):
        chunk = np.ascontiguousarray(weights[start : start + _CHUNK].T)[order]
        called = np.cumsum(chunk, axis=0)[ends]
        hits = np.cumsum(chunk * is_positive, axis=0)[ends]
        for name, values in zip(RANKING, _areas(called, hits), strict=True):
            figures[name].append(values)
    return {name: np.concatenate(values) for name, values in figures.items()}


def within_folds(
    positive: npt.NDArray[np.bool_], scores: npt.NDArray, weights: npt.NDArray, folds: npt.NDArray[np.int64]
) -> Replicates:
    """AUROC over the pairs of a study with and one without the finding in the same fold, [1 + R]; NaN without any."""
    concordant, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for number in np.unique(folds):
        inside = folds == number
        own, there = weights[:, inside], positive[inside]
        count = (own @ there) * (own @ ~there)
        auroc = ranking(there, scores[inside], own)["auroc"]
        concordant, pairs = concordant + np.where(count > 0, auroc, 0.0) * count, pairs + count
    return np.where(pairs > 0, concordant / np.where(pairs > 0, pairs, 1.0), np.nan)


def _areas(called: Floats, hits: Floats) -> tuple[Floats, Floats]:
    """Areas under ROC and precision–recall curve from what lies above each threshold, [T, R] each → [R], [R]."""
    if not len(called):
        return np.full(called.shape[1], np.nan), np.full(called.shape[1], np.nan)
    new_hits = np.diff(hits, axis=0, prepend=0.0)
    false = called - hits
    with np.errstate(invalid="ignore", divide="ignore"):
        # Between two thresholds the ROC curve is a straight line: half of a tie counts.
        below = false[-1] - false + 0.5 * np.diff(false, axis=0, prepend=0.0)
        auroc = (new_hits * below).sum(axis=0) / (hits[-1] * false[-1])
        precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
        auprc = (new_hits * precision).sum(axis=0) / hits[-1]
    return auroc, np.where(false[-1] > 0, auprc, np.nan)


def confusion(
    positive: npt.NDArray[np.bool_], called: npt.NDArray[np.bool_], weights: npt.NDArray
) -> dict[str, Replicates]:
    """Sensitivity, specificity, precision and F1, each [1 + R]; precision is NaN where nothing was called."""
    cells = np.stack([positive & called, positive & ~called, ~positive & called, ~positive & ~called], axis=1)
    hit, missed, false, rejected = (weights @ cells).T
    with np.errstate(invalid="ignore"):
        return {
            "sensitivity": hit / (hit + missed),
            "specificity": rejected / (rejected + false),
            "precision": hit / (hit + false),
            "f1": np.where(hit + missed > 0, 2 * hit / (2 * hit + missed + false), np.nan),
        }


def surprise(positive: npt.NDArray[np.bool_], probabilities: npt.NDArray) -> Floats:
    """Negative log-likelihood of each study, nats, [N]."""
    bounded = np.clip(probabilities, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    return -np.where(positive, np.log(bounded), np.log1p(-bounded))


def entropy(positive: npt.NDArray[np.bool_], weights: npt.NDArray) -> Replicates:
    """Entropy of the label, nats, [1 + R]: the NLL of whoever knows the prevalence and nothing else."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (weights @ positive) / weights.sum(axis=1)
        parts = [np.where(p > 0, -p * np.log(p), 0.0) for p in (share, 1 - share)]
    return np.where(np.isnan(share), np.nan, parts[0] + parts[1])


def equal_mass_bins(probabilities: npt.NDArray) -> npt.NDArray[np.intp]:
    """Which of ten bins of equal mass each probability falls into, [N], by rank; equal probabilities share a bin."""
    rank = rankdata(probabilities, method="average") - 0.5
    return np.minimum((_BINS * rank / max(len(probabilities), 1)).astype(np.intp), _BINS - 1)


def interval(name: str, values: Replicates) -> Estimate:
    """95 % percentile interval of the metric called `name`.

    Resampling adds calibration error of its own, so the replicates of ECE lie above the sample; they are moved onto it.
    """
    if name == "ece" and not np.isnan(values[1:]).all():
        values = np.concatenate([values[:1], np.maximum(values[1:] - np.nanmean(values[1:]) + values[0], 0.0)])
    return percentile_interval(values)
