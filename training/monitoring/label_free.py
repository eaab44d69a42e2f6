"""Performance without outcomes: what it is if every probability is right.

After confidence-based performance estimation (NannyML): a study counts as one with the finding to the share of its
calibrated probability, and as one without it to the rest. It holds as long as probabilities stay calibrated, as they do
where the mix of patients changes, and not where what a finding looks like has changed (concept shift): of that it sees
nothing, and no estimate without outcomes does.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.calibration import patient_bootstrap, percentile_interval
from consilium.domain.diagnosis import OperatingPoint
from training.evaluation.comparisons import estimate_columns
from training.evaluation.metrics import ranking
from training.monitoring.answers import AnswerTable

Floats = npt.NDArray[np.float64]

FIGURES = ("auroc", "brier", "sensitivity", "specificity")
_LEAST = 20


def expected_performance(
    answers: AnswerTable, points: Mapping[str, OperatingPoint], *, replicates: int, seed: int
) -> pd.DataFrame:
    """One line a finding: columns finding, n, and each of `FIGURES` with a 95 % interval.

    The interval is of a bootstrap by patient: it says how much hangs on which patients came, and not how well the
    probabilities are calibrated.
    """
    lines = []
    for f, finding in enumerate(answers.findings):
        known = answers.select(~np.isnan(answers.probabilities[:, f]))
        if len(known) < _LEAST:
            continue
        weights = patient_bootstrap(known.patients_or_keys, replicates, seed)
        p = known.probabilities[:, f]
        figures = expected_figures(p, p >= points[finding].threshold, weights)
        line: dict[str, object] = {"finding": finding, "n": len(known)}
        for name in FIGURES:
            line |= estimate_columns(name, percentile_interval(figures[name]))
        lines.append(line)
    return pd.DataFrame(lines)


def expected_figures(probabilities: Floats, called: npt.NDArray[np.bool_], weights: Floats) -> dict[str, Floats]:
    """Each of `FIGURES`, [R], for each row of `weights` [R, N], if outcomes follow `probabilities` [N]."""
    p, q = probabilities, 1 - probabilities
    present, absent = weights @ p, weights @ q
    twice = np.hstack([weights * p, weights * q])
    truth = np.repeat([True, False], len(p))
    whole = ranking(truth, np.tile(p, 2), twice)["auroc"] * present * absent
    # A study is not compared with itself: as a pair of both classes it would count as a tie.
    itself = weights**2 @ (p * q)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "auroc": (whole - itself / 2) / (present * absent - itself),
            "brier": weights @ (p * q) / weights.sum(axis=1),
            "sensitivity": weights @ (p * called) / present,
            "specificity": weights @ (q * ~called) / absent,
        }
