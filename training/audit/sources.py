"""Leave one source out: whether a method knows the finding or the hospitals.

`source_folds` says which studies to train on and which to test, `compare_sources` puts the result beside the ordinary
cross-validation. Both are for any method: the audit's simple baselines as well as a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from consilium.calibration import patient_bootstrap
from training.audit.report import SUSPECT, Concern
from training.cohorts.cohort import Cohort
from training.cohorts.splits import Indices
from training.evaluation.metrics import ranking

Floats = npt.NDArray[np.float64]

LEAST_PATIENTS = 5
"""Of each class: a source with fewer is not evaluated for that finding."""
LARGEST_DROP = 0.05
"""Of AUROC; beyond it, beyond doubt, a finding is suspect."""
_REPLICATES = 500


@dataclass(frozen=True, slots=True, eq=False)
class SourceFold:
    """One source to be tested, and what may be learned from: studies of other known sources, of other patients."""

    source: str
    train: Indices
    test: Indices


def source_folds(cohort: Cohort) -> list[SourceFold]:
    """A fold for each source that has `LEAST_PATIENTS` with and without some finding, as the others together do.

    Studies of an unknown source stand in no fold: they may come from the one that is left out.
    """
    sources = _sources(cohort)
    folds = []
    for source in sorted(set(sources) - {""}):
        test = np.flatnonzero(sources == source)
        own = np.isin(cohort.patient_ids, cohort.patient_ids[test])
        train = np.flatnonzero((sources != source) & (sources != "") & ~own)
        if any(_enough(cohort, test, f) and _enough(cohort, train, f) for f in range(len(cohort.findings))):
            folds.append(SourceFold(source, train, test))
    return folds


def _sources(cohort: Cohort) -> npt.NDArray[np.str_]:
    return np.array([record.source or "" for record in cohort.records])


def _enough(cohort: Cohort, rows: Indices, f: int) -> bool:
    labels, patients = cohort.labels[rows, f], cohort.patient_ids[rows]
    return min(len(np.unique(patients[labels == value])) for value in (0, 1)) >= LEAST_PATIENTS


def compare_sources(
    cohort: Cohort,
    folds: Sequence[SourceFold],
    ordinary: Mapping[str, Floats],
    left_out: Mapping[str, Floats],
    *,
    error_rate: float,
    seed: int,
) -> tuple[dict[str, pd.DataFrame], list[Concern]]:
    """AUROC under ordinary cross-validation beside that under leave-one-source-out, on the same studies.

    Parameters
    ----------
    cohort : Cohort
    folds : sequence of SourceFold
        Of `source_folds`.
    ordinary, left_out : mapping of str to float64 [N, F]
        By method: out-of-fold scores of the whole cohort; and scores from the models of `folds`, each for its own test
        studies, NaN elsewhere. Higher speaks for the finding.
    error_rate : float
        Chance that any drop is called suspect where none is truly larger than `LARGEST_DROP` (Bonferroni over methods
        and findings).

    Returns
    -------
    tables : dict
        ``sources``: one row a method and finding. `cross_validated` ranks all studies against each other;
        `within_sources` takes the same scores, but compares only studies of one source; `left_out` does so with scores
        from a model that knows no study of that source. `drop` is the first less the last.
    concerns : list of Concern
        Where the drop exceeds `LARGEST_DROP` beyond doubt.

    Notes
    -----
    Within sources the AUROC is the share of concordant pairs of all sources together. Standard errors are those of a
    bootstrap over patients, paired over the two ways of testing.
    """
    rows = [
        (method, f, kept)
        for method in ordinary
        for f in range(len(cohort.findings))
        if (kept := _evaluable(cohort, folds, f, ordinary[method][:, f], left_out[method][:, f]))
    ]
    level = error_rate / max(1, len(rows))
    weights = patient_bootstrap(cohort.patient_ids, _REPLICATES, seed) if rows else np.ones((1, len(cohort)))
    lines = [
        {"method": method, "finding": cohort.findings.names[f]}
        | _compared(cohort.labels[:, f], kept, ordinary[method][:, f], left_out[method][:, f], weights, level)
        for method, f, kept in rows
    ]
    table = pd.DataFrame(lines)
    if lines:
        table["suspect"] = table.lower_bound > LARGEST_DROP
    return {"sources": table}, _concerns(cohort, table) if lines else []


def _evaluable(
    cohort: Cohort, folds: Sequence[SourceFold], f: int, ordinary: Floats, left_out: Floats
) -> list[Indices]:
    """The studies with both scores of each source that has enough of both classes among them, to learn from as well."""
    scored = ~np.isnan(ordinary) & ~np.isnan(left_out)
    kept = [fold.test[scored[fold.test]] for fold in folds if _enough(cohort, fold.train, f)]
    kept = [rows[~np.isnan(cohort.labels[rows, f])] for rows in kept]
    return [rows for rows in kept if _enough(cohort, rows, f)]


def _compared(
    labels: npt.NDArray[np.float32],
    kept: Sequence[Indices],
    ordinary: Floats,
    left_out: Floats,
    weights: Floats,
    level: float,
) -> dict[str, object]:
    every = np.concatenate(kept)
    validated = ranking(labels[every] == 1, ordinary[every], weights[:, every])["auroc"]
    within, held_out = (_within(labels, scores, kept, weights) for scores in (ordinary, left_out))
    drop = validated - held_out
    error = np.nanstd(drop[1:], ddof=1)
    return {
        "sources": len(kept),
        "studies": len(every),
        "positives": int((labels[every] == 1).sum()),
        "cross_validated": float(validated[0]),
        "within_sources": float(within[0]),
        "left_out": float(held_out[0]),
        "drop": float(drop[0]),
        "lower_bound": float(drop[0] - norm.isf(level) * error),
    }


def _within(labels: npt.NDArray[np.float32], scores: Floats, kept: Sequence[Indices], weights: Floats) -> Floats:
    """Share of concordant pairs among the pairs of studies of one source, in each replicate, [1 + R]."""
    concordant, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for rows in kept:
        positive = labels[rows] == 1
        own = (weights[:, rows] @ positive) * (weights[:, rows] @ ~positive)
        concordant += np.nan_to_num(ranking(positive, scores[rows], weights[:, rows])["auroc"]) * own
        pairs += own
    return np.divide(concordant, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def _concerns(cohort: Cohort, table: pd.DataFrame) -> list[Concern]:
    """One a finding: the method that loses most."""
    concerns = []
    for finding in cohort.findings:
        own = table[(table.finding == finding.name) & table.suspect]
        if len(own):
            worst = own.iloc[int(own["drop"].to_numpy(float).argmax())]
            text = (
                f"{finding.display} is not known where the source is not: {worst.method.replace('_', ' ')} falls from"
                f" AUROC {worst.cross_validated:.2f} to {worst.left_out:.2f} in sources that it has not learned from"
                f" (a drop of at least {worst.lower_bound:.2f})"
            )
            concerns.append(Concern("source", SUSPECT, text, finding.name))
    return concerns
