"""Shortcut probe: whether a finding can be predicted without looking at the patient.

Gradient boosting reads where a record came from (`training.audit.provenance`), once everything together and once each
group of facts alone, so that the group that carries it can be named. A finding is suspect where such a probe does
better than `LOWEST` beyond doubt and gains over chance at least half of what the model gains: then nobody knows which
of the two the model has learned (Zech et al., PLOS Medicine 2018; DeGrave et al., Nature Machine Intelligence 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingClassifier

from consilium.calibration import patient_bootstrap
from training.audit.provenance import ambiguous_groups, origin_groups
from training.audit.report import SUSPECT, Concern
from training.cohorts.cohort import Cohort
from training.cohorts.splits import Fold, Indices
from training.evaluation.metrics import ranking

Floats = npt.NDArray[np.float64]

EVERYTHING = "everything"
LOWEST = 0.60
"""AUROC that a probe must exceed with its lower bound."""
LEAST_PATIENTS = 10
"""Of each class: a finding with fewer is not probed."""
_REPLICATES = 500
_ORDINARY = 0.05
_CHANCE = 0.5


@dataclass(frozen=True, slots=True)
class Stand:
    """What the probes are compared with.

    Attributes
    ----------
    name : str
        As a sentence calls it: ``the model``.
    auroc : mapping of str to float
        Of each finding; NaN or missing where it is not known.
    """

    name: str
    auroc: Mapping[str, float]

    def of(self, finding: str) -> float:
        return self.auroc.get(finding, float("nan"))


def find_shortcuts(
    cohort: Cohort,
    features: Mapping[str, pd.DataFrame],
    folds: Sequence[Fold],
    stand: Stand,
    *,
    error_rate: float,
    seed: int,
) -> tuple[dict[str, pd.DataFrame], list[Concern]]:
    """Probe each finding with each group of `features`, and with all of them.

    Parameters
    ----------
    cohort : Cohort
    features : mapping of str to DataFrame
        Of `training.audit.provenance.provenance`.
    folds : sequence of (train, test)
        Patient-grouped; the test sides cover the cohort.
    stand : Stand
        The model, or what stands in for it. Where its AUROC is not known, the lower bound decides alone.
    error_rate : float
        Chance that any probe's lower bound exceeds `LOWEST` where none of them truly does (Bonferroni over all).

    Returns
    -------
    tables : dict
        ``shortcuts``: one row a finding and group. `low` is the ordinary one-sided 95 % bound, `lower_bound` the one
        that all tests together leave, `reference` what `stand` reaches. `suspect` rests on `lower_bound`;
        `contributes`, on `low`, names what a suspicion comes from.
    concerns : list of Concern
        For a suspect finding, one for what is no medicine and one for what may be.
    """
    probes = dict(features)
    if len(probes) > 1:
        probes = {EVERYTHING: pd.concat(list(probes.values()), axis=1, keys=list(probes)), **probes}
    able = [f for f in range(len(cohort.findings)) if _enough(cohort, f)]
    levels = _levels(list(probes), len(able), error_rate)
    weights = patient_bootstrap(cohort.patient_ids, _REPLICATES, seed)
    lines: list[dict[str, object]] = []
    for f, (group, table) in product(able, probes.items()):
        scores = _out_of_fold(table, cohort.labels[:, f], folds, seed)
        name = cohort.findings.names[f]
        measured = bounded_auroc(cohort.labels[:, f], scores, weights, levels[group])
        lines.append({"finding": name, "group": group, **measured, "reference": stand.of(name)})
    table = pd.DataFrame(lines)
    if lines:
        half = (table.reference - _CHANCE).clip(lower=0).fillna(0) / 2
        weighty = table.auroc - _CHANCE >= half
        table["suspect"] = weighty & (table.lower_bound > LOWEST)
        table["contributes"] = weighty & (table.low > LOWEST)
    return {"shortcuts": table}, _concerns(cohort, table, stand) if lines else []


def _levels(groups: Sequence[str], findings: int, error_rate: float) -> dict[str, float]:
    """Error rate of each probe: half of it all for the probes that read everything, half for the others together."""
    others = [group for group in groups if group != EVERYTHING]
    share = error_rate / max(1, findings) / (1 if len(others) == len(groups) else 2)
    return {group: share if group == EVERYTHING else share / len(others) for group in groups}


def _enough(cohort: Cohort, f: int) -> bool:
    labels, patients = cohort.labels[:, f], cohort.patient_ids
    return min(len(np.unique(patients[labels == value])) for value in (0, 1)) >= LEAST_PATIENTS


def _out_of_fold(table: pd.DataFrame, labels: npt.NDArray[np.float32], folds: Sequence[Fold], seed: int) -> Floats:
    """Probability from a classifier that has not seen the study's patient, [N]; NaN where its label is unknown."""
    table = table.set_axis([str(number) for number in range(table.shape[1])], axis=1)
    scores = np.full(len(labels), np.nan)
    known = ~np.isnan(labels)
    for train, test in folds:
        scores[test[known[test]]] = _fit_predict(table, labels, train[known[train]], test[known[test]], seed)
    return scores


def _fit_predict(
    table: pd.DataFrame, labels: npt.NDArray[np.float32], train: Indices, test: Indices, seed: int
) -> Floats:
    fitted = table.iloc[train]
    # A column without any value cannot be binned.
    known = fitted.columns[fitted.notna().any()]
    if len(np.unique(labels[train])) < 2 or not len(known) or not len(test):
        return np.full(len(test), np.nanmean(labels[train]) if len(train) else _CHANCE)
    boosting = HistGradientBoostingClassifier(
        learning_rate=0.1,
        max_iter=50,
        max_leaf_nodes=8,
        min_samples_leaf=10,
        l2_regularization=1.0,
        categorical_features="from_dtype",
        early_stopping=False,
        random_state=seed,
    )
    boosting.fit(fitted[known], labels[train])
    return np.asarray(boosting.predict_proba(table.iloc[test][known])[:, 1])


def bounded_auroc(labels: npt.NDArray[np.float32], scores: Floats, weights: Floats, level: float) -> dict[str, object]:
    """AUROC with one-sided lower bounds: the ordinary one of 95 %, and one that is wrong with the chance `level`.

    The bootstrap gives the standard error of the AUROC's logit: its own quantiles would not reach so far into the tail.
    """
    known = ~np.isnan(labels) & ~np.isnan(scores)
    positive = labels[known] == 1
    figures = ranking(positive, scores[known], weights[:, known])["auroc"]
    pairs = int(positive.sum()) * int((~positive).sum())
    logits = logit(figures[~np.isnan(figures)].clip(0.5 / pairs, 1 - 0.5 / pairs))
    low, lower_bound = (expit(logits[0] - norm.isf(rate) * logits[1:].std(ddof=1)) for rate in (_ORDINARY, level))
    return {
        "studies": len(positive),
        "positives": int(positive.sum()),
        "auroc": float(figures[0]),
        "low": float(low),
        "lower_bound": float(lower_bound),
    }


def _concerns(cohort: Cohort, table: pd.DataFrame, stand: Stand) -> list[Concern]:
    """For each finding that any probe makes suspect, the groups that contribute."""
    concerns = []
    for finding in cohort.findings:
        own = table[(table.finding == finding.name) & (table.suspect | table.contributes)]
        if not own.suspect.any():
            continue
        against = f"; {stand.name} reaches {stand.of(finding.name):.2f}"
        doubtful = own.group.isin(ambiguous_groups())
        if doubtful.any() and own.group.isin([*ambiguous_groups(), EVERYTHING]).all():
            # All together tell no more than what may be medicine does.
            doubtful[:] = True
        kinds = [("can be predicted without looking at the patient", own[~doubtful])]
        kinds += [("can be predicted from what may be medicine or may be habit", own[doubtful])]
        concerns += [
            Concern("shortcut", SUSPECT, f"{finding.display} {what}: {_figures(group)}{against}", finding.name)
            for what, group in kinds
            if len(group)
        ]
    return concerns


def _figures(table: pd.DataFrame) -> str:
    """``AUROC 0.92 (at least 0.85) from the date, 0.90 (at least 0.81) from the site``."""
    names = {EVERYTHING: "all that is known of the record's origin", **origin_groups()}
    ordered = table.sort_values("auroc", ascending=False)
    rows = zip(ordered.group, ordered.auroc, ordered.low, strict=True)
    return "AUROC " + ", ".join(f"{auroc:.2f} (at least {low:.2f}) from {names[group]}" for group, auroc, low in rows)
