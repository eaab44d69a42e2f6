"""One table of all figures, with intervals and ranks, and what follows from it.

Metrics, all but ``sanity`` better where larger:

- ``twin_correlation``, ``twin_sign``: what was attributed to a piece of evidence, against how far the model's log-odds
  fall without it: rank correlation over twins, and share of twins with the right sign (of those that moved the model by
  at least `LEAST_CHANGE`); ``twin_oracle_correlation``, ``twin_oracle_sign`` against the fall of the best possible one;
- ``mass_in_mask``, ``pointing``: does the map lie where the evidence does; ``mass_gain`` and ``pointing_gain``: how far
  above the better of two maps that have not seen the study, the whole image (`AREA`) and its middle (`CENTRE`);
- ``auprc``: are decisive words and values found among the others;
- ``oracle_correlation``, ``oracle_sign`` of modalities: against the Shapley values of the best possible answer;
- ``deletion``, ``insertion``: see `training.evaluation.faithfulness.curves`;
- ``sanity``: rank correlation with the explanation of an untrained model (Adebayo et al. 2018); must be low;
- ``stability``: rank correlation with the explanation under a little noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.calibration import patient_bootstrap, percentile_interval
from consilium.explain.methods import FAST, LEVELS, explanations
from consilium.modalities.registry import modality_names
from training.evaluation.comparisons import MACRO
from training.evaluation.faithfulness.scores import Scores, Subject, Twins

Floats = npt.NDArray[np.float64]

MODALITIES = "modalities"
AREA, CENTRE, MEAN_MASK, RANDOM = BASELINES = ("mask_area", "centre_prior", "mean_mask", "random")
"""What has not seen the study: a map of the whole image, of its middle, of where the finding usually lies; noise."""

LEAST_CHANGE = 0.1
"""Log-odds; a smaller change has no sign to speak of."""
MOST_SANITY = 0.5
"""A method whose explanations of the model and of an untrained one agree more than this explains the input."""

COLUMNS = ("part", "method", "finding", "metric", "value", "low", "high", "n", "rank")

_GAINS = {"mass_in_mask": "mass_gain", "pointing": "pointing_gain"}
_SCORED = (
    "twin_correlation",
    "twin_sign",
    "mass_in_mask",
    "pointing",
    "auprc",
    "deletion",
    "insertion",
    "stability",
)
"""What the rank of a method is the mean over, as far as it was measured."""

_Replicates = dict[tuple[str, str, str, str], tuple[Floats, int]]
"""(part, method, finding, metric) → the figure in the sample and in each replicate, [1 + R], and the studies behind."""


def summarise(scores: Scores, findings: Sequence[str], *, bootstrap: int, seed: int) -> pd.DataFrame:
    """Figures with 95 % intervals, by bootstrap over patients.

    Returns
    -------
    DataFrame
        `COLUMNS`; `finding` is a name or ``macro``, the mean over findings; `n` counts studies or twins; `rank` orders
        the methods of a part by that figure, 1 is best; baselines have none. Sorted by part, metric, finding and rank.
    """
    replicates: _Replicates = {}
    for (subject, metric), figures in scores.figures.items():
        patients, values = zip(*figures, strict=True)
        weights = patient_bootstrap(np.array(patients), bootstrap, seed)
        mean = weights @ np.array(values) / weights.sum(axis=1)
        replicates[subject.part, subject.method, subject.finding, metric] = mean, len(values)
    for subject, twins in scores.twins.items():
        replicates |= _twin_figures(subject, twins, bootstrap, seed)
    replicates |= _gains(replicates)
    replicates |= _macro(replicates, findings)
    lines = []
    for key, (replicate, n) in replicates.items():
        estimate = percentile_interval(replicate)
        lines.append((*key, estimate.value, estimate.low, estimate.high, n))
    table = pd.DataFrame(lines, columns=list(COLUMNS[:-1]))
    table["rank"] = _ranks(table)
    order = {name: k for k, name in enumerate([*modality_names(), MODALITIES, MACRO, *findings])}
    places = table[["part", "finding"]].apply(lambda column: column.map(order))
    table = table.assign(_part=places["part"], _finding=places["finding"])
    table = table.sort_values(["_part", "metric", "_finding", "rank", "method"], kind="stable", na_position="last")
    return table[list(COLUMNS)].reset_index(drop=True)


def best_methods(table: pd.DataFrame, level: str) -> dict[str, str]:
    """The method of each part that is to be the default at `level`.

    A method whose explanations stay the same when the model has learned nothing (the upper bound of ``sanity`` over all
    findings is above `MOST_SANITY`, or was not measured) cannot be one. Of maps, those come first that lie better than
    both baselines for every finding. Among the rest the lowest mean rank over the metrics in `_SCORED`, macro, wins; of
    equals the one with the better first metric. A part is left out where no method passes.

    Parameters
    ----------
    level : str
        ``fast`` considers fast methods only.
    """
    found = {}
    for part, explanation in explanations(set(table["part"]) & set(modality_names())).items():
        known = {method.name: method for method in explanation.methods}
        lines = table[(table["part"] == part) & table["method"].isin(known.keys())]
        names = [m for m in dict.fromkeys(lines["method"]) if level != FAST or known[m].fast]
        sane = [name for name in names if is_sane(lines, part, name)]
        above = [name for name in sane if _above_baselines(lines, name)]
        candidates = above or sane
        if candidates:
            found[part] = _winner(lines, candidates)
    return found


def measured_defaults(table: pd.DataFrame) -> dict[str, dict[str, str]]:
    """`best_methods` of every level, as `consilium.explain.chosen_methods` takes them."""
    return {level: best_methods(table, level) for level in LEVELS}


def is_sane(table: pd.DataFrame, part: str, method: str) -> bool:
    """Whether the method passed its sanity check."""
    lines = table[(table["part"] == part) & (table["method"] == method)]
    sanity = lines[(lines["metric"] == "sanity") & (lines["finding"] == MACRO)]
    return len(sanity) == 1 and float(sanity["high"].iloc[0]) <= MOST_SANITY


def _above_baselines(lines: pd.DataFrame, method: str) -> bool:
    """Whether the map lies better than both baselines for every finding; False where that was not measured."""
    gains = lines[(lines["method"] == method) & lines["metric"].isin(_GAINS.values())]
    return len(gains) > 0 and bool((gains["value"] > 0).all())


def _winner(lines: pd.DataFrame, candidates: Sequence[str]) -> str:
    macro = lines[(lines["finding"] == MACRO) & lines["method"].isin(candidates)]
    values = macro.pivot_table(index="method", columns="metric", values="value")
    scored = [metric for metric in _SCORED if metric in values]
    if not scored:
        return candidates[0]
    ranks = values[scored].rank(ascending=False, na_option="bottom")
    score = ranks.mean(axis=1) + 1e-6 * ranks[scored[0]]
    return str(score.idxmin())


def _twin_figures(subject: Subject, twins: Twins, bootstrap: int, seed: int) -> _Replicates:
    weights = patient_bootstrap(np.array(twins.patients), bootstrap, seed)
    attributed = np.array(twins.attributed)
    against = {"twin": np.array(twins.model), "twin_oracle": np.array(twins.oracle)}
    if subject.part == MODALITIES:
        against = {"oracle": against["twin_oracle"]}
    found: _Replicates = {}
    for name, changes in against.items():
        moved = np.abs(changes) >= LEAST_CHANGE
        right = (np.sign(attributed) == np.sign(changes)).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            sign = weights[:, moved] @ right[moved] / weights[:, moved].sum(axis=1)
        key = (subject.part, subject.method, subject.finding)
        found[*key, f"{name}_correlation"] = weighted_spearman(attributed, changes, weights), len(changes)
        found[*key, f"{name}_sign"] = sign, int(moved.sum())
    return found


def weighted_spearman(first: Floats, second: Floats, weights: Floats) -> Floats:
    """Rank correlation of two columns [N] in each replicate of `weights` [R, N]; NaN where one of them is constant."""
    ranks = [_weighted_ranks(values, weights) for values in (first, second)]
    total = weights.sum(axis=1, keepdims=True)
    apart = [r - (weights * r).sum(axis=1, keepdims=True) / total for r in ranks]
    covariance = (weights * apart[0] * apart[1]).sum(axis=1)
    variances = [(weights * a * a).sum(axis=1) for a in apart]
    with np.errstate(invalid="ignore", divide="ignore"):
        return covariance / np.sqrt(variances[0] * variances[1])


def _weighted_ranks(values: Floats, weights: Floats) -> Floats:
    """Mid-rank of each value [N] in the samples in which it counts `weights` [R, N] times."""
    unique, group = np.unique(values, return_inverse=True)
    counts = np.zeros((len(weights), len(unique)))
    np.add.at(counts.T, group, weights.T)
    below = np.cumsum(counts, axis=1) - counts
    return (below + (counts + 1) / 2)[:, group]


def _gains(replicates: _Replicates) -> _Replicates:
    """How far each map lies above the better of the two baselines."""
    found: _Replicates = {}
    for (part, method, finding, metric), (values, n) in replicates.items():
        baselines = [replicates.get((part, name, finding, metric)) for name in (AREA, CENTRE)]
        if metric in _GAINS and method not in BASELINES and None not in baselines:
            best = np.maximum(*(one[0] for one in baselines if one is not None))
            found[part, method, finding, _GAINS[metric]] = values - best, n
    return found


def _macro(replicates: _Replicates, findings: Sequence[str]) -> _Replicates:
    """Means over the findings, where each was measured."""
    found: _Replicates = {}
    for part, method, metric in dict.fromkeys((part, method, metric) for part, method, _, metric in replicates):
        figures = [replicates.get((part, method, finding, metric)) for finding in findings]
        known = [one for one in figures if one is not None]
        if len(known) == len(findings):
            values = np.mean([values for values, _ in known], axis=0)
            found[part, method, MACRO, metric] = values, sum(n for _, n in known)
    return found


def _ranks(table: pd.DataFrame) -> pd.Series:
    """1 is best, within each part, finding and metric; NaN for baselines."""
    better = table["value"].where(table["metric"] != "sanity", -table["value"])
    better = better.where(~table["method"].isin(BASELINES))
    return better.groupby([table["part"], table["finding"], table["metric"]]).rank(ascending=False, method="min")
