"""Selective answering: what is gained where the model may stay silent, and whether its calls do more good than harm.

- ``selective``: errors among what each part of the refer rule lets through, and among what it refers;
- ``risk_coverage``: the error rate against the share answered, surest first (El-Yaniv and Wiener, JMLR 11,
  2010), and ``aurc``, the area under that curve (Geifman, Uziel and El-Yaniv, ICLR 2019), 0 without errors;
- ``decision_curve``: net benefit, true positives gained for false positives suffered at the exchange rate of the
  threshold (Vickers and Elkin, Medical Decision Making 26, 2006); ``net_benefit`` is its short form for readers.

An error is a call at the operating point that is wrong. Intervals are 95 %, by bootstrap over patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import logit

from consilium.calibration import Calibration, patient_bootstrap, percentile_interval
from consilium.configuration.recipe import ReferRecipe
from consilium.domain.findings import FindingSet
from consilium.modalities.registry import in_order
from consilium.modalities.typicality import typicality_of
from consilium.preprocessing.collate import Preprocessing
from consilium.referral.out_of_distribution import Scores
from consilium.referral.reasons import checked
from training.data.cached_cohort import CachedCohort
from training.data.datamodule import StudyDataset
from training.evaluation.comparisons import MACRO, estimate_columns
from training.evaluation.metrics import Replicates
from training.evaluation.predictions import Predictions
from training.evaluation.results import ScoredStudies
from training.evaluation.rows import AS_PRESENT

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

EVERYTHING, RULE = "everything", "rule"
"""Policies beside the parts of the refer rule: answer every study; answer where no part refers."""
SHARES = np.linspace(0.05, 1, 20)
"""Shares answered at which the risk-coverage curve is given."""
THRESHOLDS = np.linspace(0.02, 0.98, 49)
"""Probabilities from which one would act, at which net benefit is given."""
_SHOWN = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
"""Those that a reader is shown as figures."""

_FARTHEST = 30.0
_CONTRADICTIONS = "contradictions"


@dataclass(frozen=True, slots=True, eq=False)
class Doubts:
    """What speaks against answering N studies.

    Attributes
    ----------
    sets : bool [N, F, 2]
        Which of absent and present the prediction set holds.
    p_values : dict of str to float [N]
        Of each part, NaN where the study lacks it; empty where the model has no detector.
    records : dict of str to bool [N]
        Which of them each part of the refer rule refers that looks at the records alone: the checks of the modalities,
        such as ``image_quality``, and ``contradictions``.
    """

    sets: Bools
    p_values: Scores
    records: dict[str, Bools]


def doubtful_records(
    cached: CachedCohort, preprocessing: Preprocessing, study_ids: npt.NDArray[np.str_]
) -> dict[str, Bools]:
    """`Doubts.records` of the studies in `study_ids` [N]."""
    row_of = {name: row for row, name in enumerate(study_ids.tolist())}
    places = [place for place, study in enumerate(cached.studies) if study.study_id in row_of]
    names = [name for m in in_order(preprocessing.recipe.modalities) for name in typicality_of(m).checks]
    found = {part: np.zeros(len(study_ids), bool) for part in (*names, _CONTRADICTIONS)}
    dataset = StudyDataset(cached, preprocessing, np.array(places, np.int64))
    for number in range(len(dataset)):
        prepared = dataset[number].prepared
        row = row_of[prepared.study.study_id]
        found[_CONTRADICTIONS][row] = bool(prepared.study.contradictions)
        for name, reasons in checked(prepared.parts).items():
            found[name][row] = bool(reasons)
    return found


def prediction_sets(predictions: Predictions, calibration: Calibration) -> Bools:
    """The set of each study, given the modalities that it has, [N, F, 2]; both answers where it has none."""
    sets = np.ones((*predictions.labels.shape, 2), bool)
    for subset, logits in predictions.fused.items():
        here = predictions.subsets == subset
        if here.any():
            sets[here] = calibration.prediction_sets(logits[here], subset)
    return sets


def referred_by_part(rule: ReferRecipe, doubts: Doubts, present: Mapping[str, Bools]) -> dict[str, Bools]:
    """What each part of `rule` refers, [N, F]: ``both`` single findings, the others whole studies.

    As `consilium.referral.reasons`, for many studies. Parts that are switched off are left out, and so is the audit,
    which refers all studies or none.

    Parameters
    ----------
    present : mapping of str to bool [N]
        Which studies have each of the model's modalities.
    """
    whole: dict[str, Bools] = {}
    if rule.out_of_distribution is not None and doubts.p_values:
        whole["out_of_distribution"] = np.asarray(_least_typical(doubts.p_values) < rule.out_of_distribution)
    if rule.required:
        nobody = np.zeros(len(doubts.sets), bool)
        whole["required"] = np.any([~present.get(modality, nobody) for modality in rule.required], axis=0)
    whole |= {part: rows for part, rows in doubts.records.items() if _is_on(rule, part)}
    single = doubts.sets.sum(axis=2) == 1
    found = {"both": ~single} if rule.both else {}
    return found | {part: np.broadcast_to(rows[:, None], single.shape) for part, rows in whole.items()}


def _is_on(rule: ReferRecipe, part: str) -> bool:
    return rule.contradictions if part == _CONTRADICTIONS else rule.checks.get(part, True)


def selective_tables(
    scored: ScoredStudies,
    rule: ReferRecipe,
    doubts: Doubts,
    present: Mapping[str, Bools],
    *,
    bootstrap: int,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Every table that the module names, of the answers that the service would give.

    Parameters
    ----------
    doubts : Doubts
        Of the evaluation's studies, in its order.
    present : mapping of str to bool [N]
        Which of them have each of the model's modalities.
    bootstrap : int
        Replicates.
    """
    probabilities, labels = scored.probabilities[AS_PRESENT], scored.labels
    weights = patient_bootstrap(scored.patient_ids, bootstrap, seed)
    errors = np.where(np.isnan(labels) | np.isnan(probabilities), np.nan, 0.0)
    errors += (probabilities >= scored.thresholds) != (labels == 1)
    referred = referred_by_part(rule, doubts, present)
    benefit = decision_curve(scored.findings, labels, probabilities, weights)
    curves, areas = risk_coverage(scored.findings, errors, _orders(scored, doubts), weights)
    return {
        "selective": policies(scored.findings, errors, labels, referred, weights),
        "risk_coverage": curves,
        "aurc": areas,
        "decision_curve": benefit,
        "net_benefit": benefit[benefit["threshold"].isin(_SHOWN)].reset_index(drop=True),
    }


def _least_typical(p_values: Scores) -> Floats:
    """The smallest p-value of each study, [N]."""
    return np.nanmin(np.stack(list(p_values.values())), axis=0)


def _orders(scored: ScoredStudies, doubts: Doubts) -> dict[str, Floats]:
    """What may be answered first: the higher the surer, [N, F] each.

    ``confidence``: how far the log-odds are from those of the operating point. ``prediction_set``: sets of one answer
    before the others, by confidence within each. ``out_of_distribution``: the more ordinary first.
    """
    with np.errstate(divide="ignore"):
        distance = logit(scored.probabilities[AS_PRESENT]) - logit(scored.thresholds)
    confidence = np.clip(np.abs(distance), 0, _FARTHEST)
    orders = {"confidence": confidence}
    orders["prediction_set"] = confidence + 2 * _FARTHEST * (doubts.sets.sum(axis=2) == 1)
    if doubts.p_values:
        orders["out_of_distribution"] = np.broadcast_to(_least_typical(doubts.p_values)[:, None], confidence.shape)
    return orders


# --- the refer rule --------------------------------------------------------------------------------------------------


def policies(
    findings: FindingSet, errors: Floats, labels: npt.NDArray, referred: Mapping[str, Bools], weights: Floats
) -> pd.DataFrame:
    """One line per policy and finding, and their mean.

    Parameters
    ----------
    errors : float [N, F]
        1 where the call is wrong, 0 where it is right, NaN where that is not known.
    labels : float [N, F]
    referred : mapping of str to bool [N, F]
        By part of the rule; `EVERYTHING` and `RULE` come beside.
    weights : float [1 + R, N]

    Returns
    -------
    DataFrame
        ``answered``: share of the studies that are answered for this finding; ``error`` among them, with its interval;
        ``error_referred`` among the others; ``sensitivity`` and ``specificity`` of the calls that are given;
        ``silent``: share of the studies that are answered for no finding.
    """
    nothing = np.zeros(errors.shape, bool)
    kept = {EVERYTHING: ~nothing} | {part: ~those for part, those in referred.items()}
    kept[RULE] = ~np.logical_or.reduce([nothing, *referred.values()])
    lines = []
    for policy, answered in kept.items():
        figures = {
            "error": _means(errors, answered, weights),
            "error_referred": _means(errors, ~answered, weights[:1]),
            "sensitivity": 1 - _means(np.where(labels == 1, errors, np.nan), answered, weights[:1]),
            "specificity": 1 - _means(np.where(labels == 0, errors, np.nan), answered, weights[:1]),
        }
        shares, silent = answered.mean(axis=0), float((~answered).all(axis=1).mean())
        for f, name in enumerate((*findings.names, MACRO)):
            of = {k: v[f] if f < len(findings) else v.mean(axis=0) for k, v in figures.items()}
            share = float(shares[f] if f < len(findings) else shares.mean())
            line: dict[str, object] = {"policy": policy, "finding": name, "answered": share}
            line |= estimate_columns("error", percentile_interval(of.pop("error")))
            lines.append(line | {figure: float(values[0]) for figure, values in of.items()} | {"silent": silent})
    return pd.DataFrame(lines)


def _means(values: Floats, among: Bools, weights: Floats) -> Floats:
    """Weighted mean of each column of `values` [N, F] `among` [N, F] where it is known, [F, R]."""
    known = ~np.isnan(values) & among
    with np.errstate(invalid="ignore"):
        means = (weights @ np.where(known, values, 0)) / (weights @ known)
    return means.T


# --- risk and coverage -----------------------------------------------------------------------------------------------


def risk_coverage(
    findings: FindingSet, errors: Floats, orders: Mapping[str, Floats], weights: Floats
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Curves at `SHARES`, and areas under the whole curves.

    Parameters
    ----------
    errors : float [N, F]
        NaN where not known.
    orders : mapping of str to float [N, F]
        By what studies are answered, the highest first.
    weights : float [1 + R, N]

    Returns
    -------
    curves : DataFrame
        Per order, finding and share ``answered``: ``error`` with its interval.
    areas : DataFrame
        Per order and finding: ``aurc`` with its interval; ``best``, that of an order that knows the errors; ``random``,
        that of any order that knows nothing, which is the error rate.
    """
    curves: list[dict[str, object]] = []
    areas: list[dict[str, object]] = []
    for order, scores in orders.items():
        found = [_of_finding(errors[:, f], scores[:, f], weights) for f in range(len(findings))]
        found.append(tuple(np.mean(part, axis=0) for part in zip(*found, strict=True)))
        for name, (risks, area, best, random) in zip((*findings.names, MACRO), found, strict=True):
            line: dict[str, object] = {"order": order, "finding": name}
            for share, values in zip(SHARES.tolist(), risks.T, strict=True):
                curves.append(line | {"answered": share} | estimate_columns("error", percentile_interval(values)))
            columns = estimate_columns("aurc", percentile_interval(area))
            areas.append(line | columns | {"best": float(best[0]), "random": float(random[0])})
    return pd.DataFrame(curves), pd.DataFrame(areas)


def _of_finding(errors: Floats, scores: Floats, weights: Floats) -> tuple[Floats, Replicates, Replicates, Replicates]:
    """Risk at `SHARES` [1 + R, S], AURC [1 + R], the best AURC [1] and the error rate [1 + R] of one finding."""
    known = ~np.isnan(errors)
    wrong, rows = errors[known], weights[:, known]
    shares, risks = risk_curve(wrong, scores[known], rows)
    at = np.stack([np.interp(SHARES, share, risk) for share, risk in zip(shares, risks, strict=True)])
    return at, _area(shares, risks), _area(*risk_curve(wrong, -wrong, rows[:1])), risks[:, -1]


def risk_curve(errors: Floats, scores: Floats, weights: Floats) -> tuple[Replicates, Replicates]:
    """Share answered and error rate among the answered after each study, the highest of `scores` first.

    Studies of the same score come in any order: each counts as their mean.

    Parameters
    ----------
    errors, scores : float [n]
    weights : float [R, n]

    Returns
    -------
    shares, risks : float [R, n]
    """
    order = np.argsort(-scores, kind="stable")
    descending, rows = scores[order], weights[:, order]
    starts = np.flatnonzero(np.append(True, descending[1:] != descending[:-1]))
    group = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(descending))))
    answered = np.cumsum(rows, axis=1)
    with np.errstate(invalid="ignore"):
        mean = np.add.reduceat(rows * errors[order], starts, axis=1) / np.add.reduceat(rows, starts, axis=1)
        # Nothing is answered before the first study that this replicate holds.
        risks = np.nan_to_num(np.cumsum(rows * np.nan_to_num(mean)[:, group], axis=1) / answered)
    return answered / answered[:, -1:], risks


def _area(shares: Replicates, risks: Replicates) -> Replicates:
    """Mean of the risks over all shares, [R]."""
    return (np.diff(shares, axis=1, prepend=0.0) * risks).sum(axis=1)


# --- net benefit -----------------------------------------------------------------------------------------------------


def decision_curve(findings: FindingSet, labels: npt.NDArray, probabilities: Floats, weights: Floats) -> pd.DataFrame:
    """Net benefit of acting on each finding, at `THRESHOLDS`.

    Whoever acts from the probability t on holds one true positive worth (1 - t) / t false positives, so that the net
    benefit is TP / n - FP / n · t / (1 - t). Acting on no study has 0.

    Parameters
    ----------
    labels, probabilities : float [N, F]
        NaN where not known.
    weights : float [1 + R, N]

    Returns
    -------
    DataFrame
        Per finding and threshold: ``net_benefit`` of acting by the model and ``gain`` over the better of acting on all
        studies and on none, with their intervals; ``treat_all``.
    """
    lines = []
    for f, name in enumerate(findings.names):
        known = ~np.isnan(labels[:, f]) & ~np.isnan(probabilities[:, f])
        positive, rows = labels[known, f] == 1, weights[:, known]
        called = probabilities[known, f][:, None] >= THRESHOLDS
        model = _net_benefit(called, positive, rows)
        everyone = _net_benefit(np.ones_like(called), positive, rows)
        gain = model - np.maximum(everyone, 0)
        for t, threshold in enumerate(THRESHOLDS.tolist()):
            line: dict[str, object] = {"finding": name, "threshold": round(threshold, 2)}
            line |= estimate_columns("net_benefit", percentile_interval(model[:, t]))
            line |= {"treat_all": float(everyone[0, t])}
            lines.append(line | estimate_columns("gain", percentile_interval(gain[:, t])))
    return pd.DataFrame(lines)


def _net_benefit(called: Bools, positive: Bools, weights: Floats) -> Floats:
    """Of acting where `called` [n, T], in each replicate [R, T]."""
    odds = THRESHOLDS / (1 - THRESHOLDS)
    return (weights @ (called * np.where(positive[:, None], 1.0, -odds))) / weights.sum(axis=1, keepdims=True)
