"""DeLong's test: the difference of two correlated AUROCs without resampling.

DeLong, DeLong, Clarke-Pearson (Biometrics 1988), computed by midranks after Sun and Xu (IEEE Signal Processing Letters
2014). It takes studies as independent: where patients have several, the bootstrap by patient is the one to trust.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata


@dataclass(frozen=True, slots=True)
class DeLong:
    """Two AUROCs on the same studies.

    Attributes
    ----------
    first, second : float
    standard_error : float
        Of first - second; NaN with fewer than two positives or negatives.
    p_value : float
        Two-sided, that they are equal; 1 where neither differs in any pair of studies.
    """

    first: float
    second: float
    standard_error: float
    p_value: float


def delong(positive: npt.NDArray[np.bool_], first: npt.NDArray, second: npt.NDArray) -> DeLong:
    """Compare the scores `first` and `second`, float [N] each, of studies that are `positive` or not, bool [N]."""
    aurocs, by_positive, by_negative = [], [], []
    m, n = int(positive.sum()), int((~positive).sum())
    for scores in (first, second):
        everyone = rankdata(scores)
        among_positive = rankdata(scores[positive])
        among_negative = rankdata(scores[~positive])
        # Share of the other class that each study is ranked right against; a tie counts half.
        by_positive.append((everyone[positive] - among_positive) / n)
        by_negative.append(1 - (everyone[~positive] - among_negative) / m)
        aurocs.append(float(by_positive[-1].mean()))
    if min(m, n) < 2:
        return DeLong(aurocs[0], aurocs[1], float("nan"), float("nan"))
    variance = np.var(by_positive[0] - by_positive[1], ddof=1) / m + np.var(by_negative[0] - by_negative[1], ddof=1) / n
    error = float(np.sqrt(variance))
    difference = aurocs[0] - aurocs[1]
    if error == 0:
        return DeLong(aurocs[0], aurocs[1], 0.0, 1.0 if difference == 0 else 0.0)
    return DeLong(aurocs[0], aurocs[1], error, float(2 * norm.sf(abs(difference) / error)))
