"""Data drift: how recent answers differ from the held-out studies and from the answers before them.

It describes, and raises no alarm: looked at daily, one p-value in twenty is below .05. Univariate tests are held to a
false discovery rate (Benjamini and Hochberg, 1995); of a part's features together, a kernel two-sample test (Gretton et
al., JMLR 2012) with a permutation p-value. What is compared with the held-out studies carries their noise.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial.distance import cdist, pdist
from scipy.stats import chi2_contingency, false_discovery_control, ks_2samp

from consilium.monitoring.reference import OTHER, MonitoringReference
from training.monitoring.alarms import WatchedColumn, own_columns, reference_columns
from training.monitoring.answers import NOT_GIVEN, AnswerTable

Floats = npt.NDArray[np.float64]

HELD_OUT, EARLIER = "held-out studies", "earlier answers"
FALSE_DISCOVERIES = 0.05

_LEAST = 10
"""Of either sample, for a test."""
_MOST = 500
"""Rows of either sample in a kernel test."""
_PERMUTATIONS = 500
_LEAST_EXPECTED = 5.0


def univariate_drift(recent: AnswerTable, earlier: AnswerTable, reference: MonitoringReference | None) -> pd.DataFrame:
    """One line a column and comparison.

    Columns: against, kind, label, test, n, n_against, statistic, p_value, q_value, drifted. The statistic is the
    largest difference of the distribution functions (Kolmogorov-Smirnov), of categories and presence the largest
    difference of a share (with the p-value of the likelihood-ratio test, G), where `n_against` is the number of
    held-out studies that would say as much without noise. Samples of fewer than 10 are left out.
    """
    lines = [line for one in _comparisons(recent, earlier, reference) if (line := _compared(*one)) is not None]
    frame = pd.DataFrame(lines, columns=["against", "kind", "label", "test", "n", "n_against", "statistic", "p_value"])
    frame["q_value"] = false_discovery_control(frame.p_value) if len(frame) else frame.p_value
    frame["drifted"] = frame.q_value < FALSE_DISCOVERIES
    return frame.sort_values(["q_value", "p_value"], kind="stable", ignore_index=True)


Counts = dict[str, float]
Comparison = tuple[str, str, str, npt.NDArray | Counts, npt.NDArray | Counts]


def _comparisons(
    recent: AnswerTable, earlier: AnswerTable, reference: MonitoringReference | None
) -> Iterator[Comparison]:
    """Against what, kind, label, recent and compared values."""
    for now, before in zip(own_columns(recent), own_columns(earlier), strict=True):
        yield EARLIER, now.kind, now.label, _shown(now), _shown(before)
    if reference is None:
        return
    for column in reference_columns(recent, reference):
        yield HELD_OUT, column.kind.removeprefix("held-out "), column.label, column.stream, column.reference
    for name, counts in reference.counts.items():
        kind, _, modality = name.rpartition(":")
        values = np.where(recent.present[modality], "yes", "no") if kind == "present" else recent.categories[name]
        known = values[values != NOT_GIVEN]  # of a category that only some studies have, those are counted
        shown = np.where(np.isin(known, list(counts)), known, OTHER)
        # Noise of so many standard deviations of a count is as if there were so many fewer studies.
        held_out = {value: count / (1 + reference.noise**2) for value, count in counts.items()}
        label = ("presence", modality) if kind == "present" else ("category", name)
        yield HELD_OUT, *label, _counts(shown), held_out


def _shown(column: WatchedColumn) -> npt.NDArray | Counts:
    """Values, or how often each category was there."""
    if column.kind in {"presence", "referral"}:
        return _counts(np.where(column.stream == 1, "yes", "no"))
    return _counts(column.stream) if column.kind == "category" else column.stream


def _counts(values: npt.NDArray[np.str_]) -> Counts:
    return {str(value): float(count) for value, count in zip(*np.unique(values, return_counts=True), strict=True)}


def _compared(
    against: str, kind: str, label: str, now: npt.NDArray | Counts, before: npt.NDArray | Counts
) -> dict[str, object] | None:
    """A line of the table; None where there is too little, or one category alone."""
    if isinstance(now, dict) and isinstance(before, dict):
        test, sizes = "G", (int(sum(now.values())), int(sum(before.values())))
        found = _shares_test(now, before)
    else:
        values = [column[~np.isnan(column)] for column in (now, before) if not isinstance(column, dict)]
        test, sizes = "KS", (len(values[0]), len(values[1]))
        found = _distance_test(*values) if min(sizes) else None
    if min(sizes) < _LEAST or found is None:
        return None
    line: dict[str, object] = {"against": against, "kind": kind, "label": label, "test": test}
    return line | {"n": sizes[0], "n_against": sizes[1], "statistic": found[0], "p_value": found[1]}


def _distance_test(now: npt.NDArray, before: npt.NDArray) -> tuple[float, float]:
    found = ks_2samp(now, before, method="asymp")
    return float(found.statistic), float(found.pvalue)


def _shares_test(now: Counts, before: Counts) -> tuple[float, float] | None:
    """Largest difference of a share, and the p-value of G; categories too rare for it count as one."""
    names = sorted(now.keys() | before.keys())
    table = np.array([[one.get(name, 0.0) for name in names] for one in (now, before)])
    if not table.sum(axis=1).all():
        return None
    expected = table.sum(axis=0) * table.sum(axis=1).min() / table.sum()
    rare = expected < _LEAST_EXPECTED
    pooled = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
    pooled = pooled[:, pooled.sum(axis=0) > 0]
    if pooled.shape[1] < 2:
        return None
    shares = pooled / pooled.sum(axis=1, keepdims=True)
    test = chi2_contingency(pooled, lambda_="log-likelihood")
    return float(np.abs(shares[0] - shares[1]).max()), float(test.pvalue)


def multivariate_drift(
    recent: AnswerTable, earlier: AnswerTable, reference: MonitoringReference | None, seed: int
) -> pd.DataFrame:
    """Features of each part together: columns against, part, n, n_against, mmd, p_value, q_value, drifted.

    `mmd` is the unbiased estimate of the squared maximum mean discrepancy under a Gaussian kernel whose width is the
    median distance, of at most 500 rows of either sample, drawn at random.
    """
    rng = np.random.default_rng(seed)
    pairs: list[tuple[str, str, npt.NDArray, npt.NDArray]]
    pairs = [(EARLIER, part, rows, earlier.projections[part]) for part, rows in recent.projections.items()]
    if reference is not None:
        noise = np.random.default_rng([seed, 1])
        pairs += [
            (HELD_OUT, part, reference.noisy_projections(recent.projections[part], noise), rows)
            for part, rows in reference.rows.items()
        ]
    lines = []
    for against, part, *samples in pairs:
        now, before = (_some(one[~np.isnan(one).any(axis=1)], rng) for one in samples)
        if min(len(now), len(before)) >= _LEAST:
            mmd, p_value = kernel_test(now, before, rng)
            line = {"against": against, "part": part, "n": len(now), "n_against": len(before)}
            lines.append(line | {"mmd": mmd, "p_value": p_value})
    frame = pd.DataFrame(lines, columns=["against", "part", "n", "n_against", "mmd", "p_value"])
    frame["q_value"] = false_discovery_control(frame.p_value) if len(frame) else frame.p_value
    frame["drifted"] = frame.q_value < FALSE_DISCOVERIES
    return frame


def kernel_test(first: Floats, second: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """Unbiased squared maximum mean discrepancy of two samples, [N, D] and [M, D], and its permutation p-value."""
    both = np.concatenate([first, second])
    width = np.median(pdist(both))
    kernel = np.exp(-cdist(both, both, "sqeuclidean") / (2 * width**2)) if width > 0 else np.ones((len(both),) * 2)
    np.fill_diagonal(kernel, 0.0)
    n, m = len(first), len(second)
    chosen = np.zeros((_PERMUTATIONS + 1, n + m))
    chosen[0, :n] = 1
    for row in chosen[1:]:
        row[rng.permutation(n + m)[:n]] = 1
    rest = 1 - chosen
    with_first = chosen @ kernel
    within, across = (with_first * chosen).sum(axis=1), (with_first * rest).sum(axis=1)
    other = kernel.sum() - within - 2 * across
    discrepancies = within / (n * (n - 1)) + other / (m * (m - 1)) - 2 * across / (n * m)
    p_value = float((discrepancies >= discrepancies[0] - 1e-12).mean())
    return float(discrepancies[0]), p_value


def _some(rows: npt.NDArray, rng: np.random.Generator) -> Floats:
    chosen = rng.choice(len(rows), min(len(rows), _MOST), replace=False)
    return np.asarray(rows[chosen], np.float64)
