"""Metrics of grades and times to an event, with bootstrap replicates.

Whoever is lost before a horizon says nothing of it, and the others there count for those like them: they are weighted
by the inverse chance not to be lost (Graf et al. 1999), which is Kaplan and Meier's in the studies evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.domain.targets import SurvivalTarget, Target, step_slices
from training.evaluation.comparisons import estimate_columns
from training.evaluation.metrics import BY_CHANCE, finding_metrics, interval
from training.evaluation.rows import Row

Floats = npt.NDArray[np.float64]
Replicates = npt.NDArray[np.float64]

STEP_METRICS = ("auroc", "brier", "ece")
_BLOCK = 1024  # studies whose pairs with all others are held at once


def target_tables(
    targets: Sequence[Target], outcomes: Floats, passed: Mapping[Row, Floats], weights: Floats
) -> dict[str, pd.DataFrame]:
    """``targets``, one line a target and row, and ``target_steps``, one line a step; 95 % intervals.

    Parameters
    ----------
    outcomes : float64 [N, G, 2]
        As `Cohort.outcomes`.
    passed : mapping of Row to float64 [N, S]
        Calibrated chance to pass each step; NaN where there is none.
    weights : float [1 + R, N]
        As `training.evaluation.metrics.Sample`.

    Returns
    -------
    dict of str to DataFrame
        ``targets`` has ``n``, ``observed`` (not censored), ``concordance`` (Harrell's C of the expected number of steps
        passed) and ``brier`` (over all steps: of grades their mean, which is the ranked probability score over its
        largest value; of times the integrated Brier score up to the last horizon). ``target_steps`` has what
        `finding_metrics` gives of passing each step.
    """
    lines, of_steps = [], []
    for position, (target, own) in enumerate(zip(targets, step_slices(targets), strict=True)):
        for row, chances in passed.items():
            rows = ~np.isnan(outcomes[:, position, 0]) & ~np.isnan(chances[:, own]).any(axis=1)
            if not rows.any():
                continue
            measured = _Measured(target, outcomes[rows, position], chances[rows, own], weights[:, rows])
            key = {"target": target.name, "row": row}
            lines.append(key | measured.line())
            of_steps += [key | line for line in measured.step_lines()]
    return {"targets": pd.DataFrame(lines), "target_steps": pd.DataFrame(of_steps)} if lines else {}


class _Measured:
    """One target and row.

    Parameters
    ----------
    outcomes : float64 [n, 2]
        None unknown.
    chances : float64 [n, S of the target]
    weights : float [1 + R, n]
    """

    def __init__(self, target: Target, outcomes: Floats, chances: Floats, weights: Floats) -> None:
        self._target = target
        self._outcomes = outcomes
        self._chances = chances
        self._weights = weights
        labels, lost = known_passes(target, outcomes)
        self._labels = labels
        self._steps = [self._step(step, labels[:, step], lost[:, step]) for step in range(labels.shape[1])]

    def _step(self, step: int, labels: Floats, lost: Floats) -> dict[str, Replicates]:
        known = ~np.isnan(labels)
        return finding_metrics(labels[known], self._chances[known, step], None, self._weights[:, known] * lost[known])

    def line(self) -> dict[str, object]:
        value, observed = self._outcomes[:, 0], self._outcomes[:, 1] == 1
        of_ranking = concordance(value, observed, self._chances.sum(axis=1), self._weights)
        briers = integrated(self._target, np.stack([step["brier"] for step in self._steps]))
        found: dict[str, object] = {"n": len(value), "observed": int(observed.sum())}
        found |= estimate_columns("concordance", interval("concordance", of_ranking))
        return found | estimate_columns("brier", interval("brier", briers))

    def step_lines(self) -> list[dict[str, object]]:
        lines = []
        for number, (name, figures) in enumerate(zip(self._target.steps, self._steps, strict=True)):
            known = ~np.isnan(self._labels[:, number])
            line: dict[str, object] = {"step": name, "n": int(known.sum())}
            line |= {"passed": int((self._labels[:, number] == 1).sum())}
            for metric in STEP_METRICS:
                line |= estimate_columns(metric, interval(metric, figures[metric]))
            lines.append(line | {BY_CHANCE: float(figures[BY_CHANCE][0])})
        return lines


def known_passes(target: Target, outcomes: Floats) -> tuple[Floats, Floats]:
    """Whether each study passed each step and all before, and how much it counts there, float64 [N, S] each.

    1 passed, 0 not, NaN lost before.
    """
    value, observed = outcomes[:, :1], outcomes[:, 1:] == 1
    if not isinstance(target, SurvivalTarget):
        labels = (value > np.arange(len(target.steps))).astype(np.float64)
        return labels, np.ones_like(labels)
    horizons = np.array(target.horizons)
    ended, followed = observed & (value <= horizons), (value > horizons) | (~observed & (value >= horizons))
    labels = np.where(ended, 0.0, np.where(followed, 1.0, np.nan))
    stay = _chance_to_stay(outcomes, np.where(ended, value, horizons))
    return labels, np.where(np.isnan(labels), 0.0, 1 / np.where(stay > 0, stay, 1))


def _chance_to_stay(outcomes: Floats, until: Floats) -> Floats:
    """Kaplan and Meier's chance not to be lost before `until`, of the same shape."""
    value, lost = outcomes[:, 0], outcomes[:, 1] == 0
    times = np.unique(value[lost])
    at_risk = (value[:, None] >= times).sum(axis=0)
    left = (value[lost][:, None] == times).sum(axis=0)
    stay = np.concatenate([[1.0], np.cumprod(1 - left / at_risk)])
    found: Floats = stay[np.searchsorted(times, until, side="left")]
    return found


def concordance(value: Floats, observed: npt.NDArray[np.bool_], score: Floats, weights: Floats) -> Replicates:
    """Harrell's C, [1 + R]: of the pairs of which is known whose value is less, the share whose score is less, too.

    Ties of the score count half.

    Parameters
    ----------
    value, score : float [n]
    observed : bool [n]
        The value is exactly that; otherwise at least that.
    weights : float [1 + R, n]
    """
    agree, all_pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for start in range(0, len(value), _BLOCK):
        own = slice(start, start + _BLOCK)
        less = (value[own, None] < value) | ((value[own, None] == value) & ~observed)
        comparable = (less & observed[own, None]).astype(np.float32)
        ranked = comparable * ((score[own, None] < score) + 0.5 * (score[own, None] == score)).astype(np.float32)
        block, others = weights[:, own].astype(np.float32), weights.astype(np.float32)
        agree += ((block @ ranked) * others).sum(axis=1, dtype=np.float64)
        all_pairs += ((block @ comparable) * others).sum(axis=1, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        found: Replicates = agree / all_pairs
    return found


def integrated(target: Target, briers: Floats) -> Replicates:
    """Over all steps, from the Brier score of each, [S, 1 + R] → [1 + R]."""
    if not isinstance(target, SurvivalTarget):
        mean: Replicates = briers.mean(axis=0)
        return mean
    times = np.array([0.0, *target.horizons])
    whole: Replicates = np.trapezoid(np.vstack([np.zeros(briers.shape[1]), briers]), times, axis=0) / times[-1]
    return whole
