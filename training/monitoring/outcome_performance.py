"""Performance where outcomes are known: over time and by group, beside what is expected and what confirmation distorts.

Only answers older than the delay of outcomes count: of younger ones those are confirmed whose outcome is quick. Reads
made in knowledge of the answer (`influenced`) stand in rows of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit, logit

from consilium.calibration import patient_bootstrap
from consilium.domain.diagnosis import Estimate, OperatingPoint
from training.evaluation.comparisons import estimate_columns
from training.evaluation.metrics import Sample, interval
from training.monitoring.answers import NOT_GIVEN, AnswerTable
from training.monitoring.confirmation import confirmation_weights, delay_of_outcomes

Floats = npt.NDArray[np.float64]

WINDOW_S = 30 * 86400.0
GROUPS = ("site", "device", "sex", "age_band")
FIGURES = ("auroc", "ece", "sensitivity", "specificity")
NAIVE, WEIGHTED, INFLUENCED = "as confirmed", "weighted", "influenced reads"

_LEAST = 10
"""Of studies with the finding and of those without, for a figure."""
_NEWTON_STEPS = 50
_CERTAIN = 1e-6


@dataclass(frozen=True, slots=True)
class OutcomePlan:
    """How performance is measured: bootstrap replicates by patient, and their seed."""

    points: Mapping[str, OperatingPoint]
    replicates: int
    seed: int


def confirmation_table(answers: AnswerTable, until: float) -> pd.DataFrame:
    """One line a finding: columns finding, old_enough, confirmed, share, influenced, delay_days."""
    delay = delay_of_outcomes(answers)
    old = _old_enough(answers, until)
    lines = []
    for f, finding in enumerate(answers.findings):
        known = ~np.isnan(old.labels[:, f])
        line: dict[str, object] = {"finding": finding, "old_enough": len(old), "confirmed": int(known.sum())}
        line |= {"share": float(known.mean()) if len(old) else np.nan}
        lines.append(line | {"influenced": int((old.influenced[:, f] == 1).sum()), "delay_days": delay / 86400})
    return pd.DataFrame(lines)


def performance_over_time(answers: AnswerTable, since: float, until: float, plan: OutcomePlan) -> pd.DataFrame:
    """Figures in windows of 30 days from `since`: columns window, finding, reads, n, positives, and each figure.

    `reads` is ``as confirmed``; ``weighted``, by one over the chance of being confirmed; or ``influenced reads``.
    Calibration slope and coverage stand beside `FIGURES`.
    """
    old = _old_enough(answers, until)
    lines = []
    for number in range(int(np.ceil(max(until - since, 0) / WINDOW_S))):
        begin = since + number * WINDOW_S
        window = old.between(begin, min(begin + WINDOW_S, until))
        day = str(np.datetime64(int(begin), "s"))[:10]
        lines += [{"window": day, **line} for line in _of_all_reads(window, plan)]
    return pd.DataFrame(lines)


def performance_by_group(answers: AnswerTable, until: float, plan: OutcomePlan) -> pd.DataFrame:
    """Figures of each value of each of `GROUPS`: columns kind, group, then as `performance_over_time`."""
    old = _old_enough(answers, until)
    lines = []
    for kind in GROUPS:
        values = old.categories.get(kind, np.zeros(0, np.str_))
        for value in np.unique(values[values != NOT_GIVEN]).tolist():
            group = old.select(values == value)
            lines += [{"kind": kind, "group": value, **line} for line in _measured(group, NAIVE, plan)]
    return pd.DataFrame(lines)


def _old_enough(answers: AnswerTable, until: float) -> AnswerTable:
    delay = delay_of_outcomes(answers)
    return answers.select(answers.times < until - delay) if np.isfinite(delay) else answers.select(np.zeros(0, int))


def _of_all_reads(answers: AnswerTable, plan: OutcomePlan) -> Iterator[dict[str, object]]:
    for reads in (NAIVE, WEIGHTED, INFLUENCED):
        yield from _measured(answers, reads, plan)


def _measured(answers: AnswerTable, reads: str, plan: OutcomePlan) -> Iterator[dict[str, object]]:
    influenced = answers.influenced == 1
    for f, finding in enumerate(answers.findings):
        confirmed = ~np.isnan(answers.labels[:, f]) & (influenced[:, f] == (reads == INFLUENCED))
        confirmed &= ~np.isnan(answers.probabilities[:, f])
        positives = int((answers.labels[confirmed, f] == 1).sum())
        if min(positives, confirmed.sum() - positives) < _LEAST:
            continue
        threshold = plan.points[finding].threshold
        weighted = reads == WEIGHTED
        factors = confirmation_weights(answers, f, threshold, confirmed) if weighted else np.ones(len(answers))
        if factors is not None:
            line: dict[str, object] = {"finding": finding, "reads": reads}
            yield line | _figures(answers.select(confirmed), f, factors[confirmed], plan)


def _figures(known: AnswerTable, f: int, factors: Floats, plan: OutcomePlan) -> dict[str, object]:
    weights = patient_bootstrap(known.patients_or_keys, plan.replicates, plan.seed) * factors
    p, y = known.probabilities[:, [f]], known.labels[:, [f]]
    [measured] = Sample(y, weights).measure(p, p >= plan.points[known.findings[f]].threshold)
    line: dict[str, object] = {"n": measured.n, "positives": measured.positives}
    for name in FIGURES:
        line |= estimate_columns(name, interval(name, measured.figures[name]))
    covered = known.sets[np.arange(len(known)), f, y[:, 0].astype(np.int64)]
    with np.errstate(invalid="ignore", divide="ignore"):
        line |= estimate_columns("coverage", interval("coverage", weights @ covered / weights.sum(axis=1)))
    return line | estimate_columns("calibration_slope", calibration_slope(p[:, 0], y[:, 0] == 1, factors))


def calibration_slope(probabilities: Floats, positive: npt.NDArray[np.bool_], weights: Floats) -> Estimate:
    """Slope of outcomes on log-odds by logistic regression, 1 where probabilities are right; NaN where there is none.

    The interval is Wald's, with a variance that holds under weights, too (Huber's sandwich).
    """
    x = np.stack([np.ones(len(probabilities)), logit(np.clip(probabilities, _CERTAIN, 1 - _CERTAIN))], axis=1)
    beta = np.array([0.0, 1.0])
    nothing = Estimate(float("nan"), float("nan"), float("nan"))
    for _ in range(_NEWTON_STEPS):
        fitted = expit(x @ beta)
        curvature = (x * (weights * fitted * (1 - fitted))[:, None]).T @ x
        if np.linalg.cond(curvature) > 1e12:
            return nothing
        step = np.linalg.solve(curvature, x.T @ (weights * (positive - fitted)))
        beta = beta + step
        if np.abs(step).max() < 1e-8:
            break
    else:
        return nothing
    scores = x * (weights * (positive - expit(x @ beta)))[:, None]
    inverse = np.linalg.inv(curvature)
    error = float(np.sqrt((inverse @ (scores.T @ scores) @ inverse)[1, 1]))
    return Estimate(float(beta[1]), float(beta[1] - 1.96 * error), float(beta[1] + 1.96 * error))
