"""Means since the tests began, with bounds that hold at every look (confidence sequences)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from training.monitoring.answers import AnswerTable
from training.monitoring.betting import confidence_sequence

Floats = npt.NDArray[np.float64]

_LOOKS = 52
"""At most so many times the bounds are computed; they hold at all others, too, as those of the look before."""


def rates_table(answers: AnswerTable, until: float) -> pd.DataFrame:
    """One line a rate: columns kind, label, n, mean, mean_low, mean_high.

    Presence of modalities, referral, mean probability of each finding, and its frequency among outcomes that were
    confirmed without knowledge of the answer. Each interval holds the mean at all times together with 95 %, where
    answers are independent and nothing changes.
    """
    lines = []
    for kind, label, values in _rates(answers, until):
        if len(values):
            at = np.unique(np.linspace(0, len(values) - 1, _LOOKS).astype(np.int64))
            found = confidence_sequence(values, at=at)
            line: dict[str, object] = {"kind": kind, "label": label, "n": len(values), "mean": float(values.mean())}
            lines.append(line | {"mean_low": float(found.low[-1]), "mean_high": float(found.high[-1])})
    return pd.DataFrame(lines, columns=["kind", "label", "n", "mean", "mean_low", "mean_high"])


def _rates(answers: AnswerTable, until: float) -> Iterator[tuple[str, str, Floats]]:
    for name, there in answers.present.items():
        yield "presence", name, there.astype(np.float64)
    yield "referral", "", answers.referred.astype(np.float64)
    for f, finding in enumerate(answers.findings):
        p = answers.probabilities[:, f]
        yield "probability", finding, p[~np.isnan(p)]
    for f, finding in enumerate(answers.findings):
        known = (answers.known_at[:, f] < until) & ~np.isnan(answers.labels[:, f]) & (answers.influenced[:, f] != 1)
        rows = np.flatnonzero(known)
        yield "outcome", finding, answers.labels[rows[np.argsort(answers.known_at[rows, f])], f]
