"""The audit of one cohort and task, top-down: what needs no model, what is compared with one, then one verdict."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from consilium.configuration.modality_sections import Scope
from training.audit.duplicates import find_duplicates
from training.audit.label_words import label_words
from training.audit.provenance import provenance
from training.audit.report import GRADES, SUSPECT, UNUSABLE, AuditReport, Concern
from training.audit.shortcuts import Stand, find_shortcuts
from training.audit.sources import compare_sources, source_folds
from training.audit.support import support
from training.cohorts.cohort import Cohort
from training.cohorts.splits import Fold, patient_folds
from training.data.cached_cohort import CachedCohort
from training.evaluation.baselines import baseline_predictions
from training.evaluation.metrics import ranking

_log = logging.getLogger(__name__)

Found = tuple[dict[str, pd.DataFrame], list[Concern]]

SHORTCUT_RATE, SOURCE_RATE, WORD_RATE, COPY_RATE = 0.02, 0.01, 0.01, 0.01
"""Chance that a sound cohort is called suspect by each search; that of copies is set by each modality."""
FOLDS = 5
MOST_STUDIES = 3000
"""The simple baselines learn from no more; they need not be exact."""


@dataclass(frozen=True, slots=True, eq=False)
class EarlyAudit:
    """What an audit found without a model, and what it needs to go on: `audit_with_model`.

    Attributes
    ----------
    folds : sequence of Fold
        On which the probes are tested; empty where there are too few patients for any.
    """

    cached: CachedCohort
    inputs: Scope
    seed: int
    folds: Sequence[Fold]
    found: Sequence[Found]

    @property
    def report(self) -> AuditReport:
        """Of copies, patients on two sides, classes that are missing and words that give labels away."""
        return _report(self.cached.cohort, self.found, WORD_RATE + COPY_RATE)


def audit_cohort(
    cached: CachedCohort,
    inputs: Scope | None = None,
    *,
    parts: Sequence[str | None] | None = None,
    model_auroc: Mapping[str, float] | None = None,
    seed: int = 0,
) -> AuditReport:
    """Look for what is too good to be true in a cohort: `audit_without_model`, then `audit_with_model`."""
    return audit_with_model(audit_without_model(cached, inputs, parts=parts, seed=seed), model_auroc)


def audit_without_model(
    cached: CachedCohort,
    inputs: Scope | None = None,
    *,
    parts: Sequence[str | None] | None = None,
    seed: int = 0,
) -> EarlyAudit:
    """The searches that need no figure of a model: copies, patients on two sides, missing classes, label words.

    Parameters
    ----------
    cached : CachedCohort
        What was read of its files is what a model would see.
    inputs : Scope, optional
        Which records a model would read.
    parts : sequence of str or None, optional
        Split or fold of each record, as a training uses them; None: those that the cohort fixes.
    seed : int
    """
    inputs = inputs or Scope()
    cohort = cached.cohort
    with _few_threads():
        with _timed("duplicates"):
            found = [find_duplicates(cohort, cached, parts, inputs=inputs, seed=seed)]
        with _timed("support"):
            found.append(support(cached, parts, inputs=inputs))
        folds: Sequence[Fold] = ()
        if len(np.unique(cohort.patient_ids)) >= FOLDS:
            folds = patient_folds(cohort.labels, cohort.patient_ids, FOLDS, seed)
            with _timed("label words"):
                found.append(label_words(cohort, folds, inputs=inputs, error_rate=WORD_RATE, seed=seed))
    return EarlyAudit(cached, inputs, seed, folds, found)


def audit_with_model(early: EarlyAudit, model_auroc: Mapping[str, float] | None = None) -> AuditReport:
    """The whole audit: what `early` found, then shortcuts and sources, which are compared with what a model reaches.

    Parameters
    ----------
    model_auroc : mapping of str to float, optional
        What a model of this cohort reaches for each finding, on studies that it has not learned from. Without it, the
        best of the simple baselines stands in for it.

    Returns
    -------
    AuditReport
        Its `false_alarm_rate` is the sum over all tests that can make a cohort suspect by chance. What is counted
        instead of tested (patients in two splits, classes that are missing) raises no false alarm.
    """
    found = list(early.found)
    if early.folds:
        with _few_threads():
            found += _origins(early.cached, early.folds, early.inputs, model_auroc, early.seed)
    return _report(early.cached.cohort, found, SHORTCUT_RATE + SOURCE_RATE + WORD_RATE + COPY_RATE)


def _few_threads() -> threadpool_limits:
    """Left alone, scikit-learn's threads take every core beside torch's, and each waits for the other."""
    return threadpool_limits(torch.get_num_threads())


def _report(cohort: Cohort, found: Sequence[Found], false_alarm_rate: float) -> AuditReport:
    tables = {name: table for part, _ in found for name, table in part.items() if len(table)}
    concerns = _of_the_task([concern for _, part in found for concern in part], cohort.findings.names)
    return AuditReport(tuple(concerns), tables, false_alarm_rate)


def _of_the_task(concerns: Sequence[Concern], findings: Sequence[str]) -> list[Concern]:
    """Gravest first. A finding that cannot be used makes its task suspect while others can be, and else unusable."""
    hopeless = {concern.finding for concern in concerns if concern.grade == UNUSABLE}
    if not hopeless.issuperset(findings):
        concerns = [
            replace(concern, grade=SUSPECT) if concern.grade == UNUSABLE and concern.finding else concern
            for concern in concerns
        ]
    return sorted(concerns, key=lambda concern: -GRADES.index(concern.grade))


def _origins(
    cached: CachedCohort,
    folds: Sequence[Fold],
    inputs: Scope,
    model_auroc: Mapping[str, float] | None,
    seed: int,
) -> list[Found]:
    """The shortcut probe, and what simple baselines are worth in sources that they do not know."""
    some = _fewer(cached, seed)
    predict = partial(baseline_predictions, some, inputs=inputs, seed=seed)
    sources = source_folds(some.cohort)
    ordinary: dict[str, npt.NDArray[np.float64]] = {}
    if model_auroc is None or sources:
        with _timed("simple baselines"):
            ordinary = predict(patient_folds(some.cohort.labels, some.cohort.patient_ids, FOLDS, seed))
    stand = Stand("the best simple baseline", _best(some.cohort, ordinary))
    if model_auroc is not None:
        stand = Stand("the model", model_auroc)
    with _timed("shortcuts"):
        features = provenance(cached, inputs)
        found = [find_shortcuts(cached.cohort, features, folds, stand, error_rate=SHORTCUT_RATE, seed=seed)]
    if sources:
        with _timed("sources left out"):
            away = predict([(fold.train, fold.test) for fold in sources])
            found.append(compare_sources(some.cohort, sources, ordinary, away, error_rate=SOURCE_RATE, seed=seed))
    return found


def _fewer(cached: CachedCohort, seed: int) -> CachedCohort:
    """As many patients as have `MOST_STUDIES` studies, drawn at random; the order stays."""
    cohort = cached.cohort
    patients, patient = np.unique(cohort.patient_ids, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(patients))
    taken = np.cumsum(np.bincount(patient)[order]) <= MOST_STUDIES
    rows = np.flatnonzero(np.isin(patient, order[taken])).tolist()
    part = replace(cohort, records=tuple(cohort.records[row] for row in rows))
    return replace(cached, cohort=part, studies=tuple(cached.studies[row] for row in rows))


def _best(cohort: Cohort, predictions: Mapping[str, npt.NDArray[np.float64]]) -> dict[str, float]:
    """Highest AUROC that any method reaches, for each finding; NaN where none can be measured."""
    best = {}
    for f, name in enumerate(cohort.findings.names):
        labels = cohort.labels[:, f]
        known = [~np.isnan(labels) & ~np.isnan(scores[:, f]) for scores in predictions.values()]
        reached = [
            float(ranking(labels[rows] == 1, scores[rows, f], np.ones((1, int(rows.sum()))))["auroc"][0])
            for rows, scores in zip(known, predictions.values(), strict=True)
        ]
        able = [auroc for auroc in reached if not math.isnan(auroc)]
        best[name] = max(able, default=math.nan)
    return best


@contextmanager
def _timed(what: str) -> Iterator[None]:
    begun = perf_counter()
    yield
    _log.info("audit: %s (%.0f s)", what, perf_counter() - begun)
