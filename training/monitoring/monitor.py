"""One look at a model in service: everything that its stored answers say, and which alarms stand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit

from consilium.artifacts.artifact import Artifact
from consilium.domain.diagnosis import ModelIdentity, OperatingPoint
from consilium.domain.errors import InputError
from consilium.domain.findings import FindingSet
from consilium.monitoring.monitored_answer import MonitoredAnswer
from consilium.monitoring.reference import MonitoringReference
from training.monitoring.alarm_state import AlarmState
from training.monitoring.alarms import DAY, AlarmRule, StreamEvidence, run_tests
from training.monitoring.answers import AnswerTable, Layout
from training.monitoring.drift import multivariate_drift, univariate_drift
from training.monitoring.label_free import expected_performance
from training.monitoring.outcome_performance import (
    OutcomePlan,
    confirmation_table,
    performance_by_group,
    performance_over_time,
)
from training.monitoring.prior_shift import prior_shift
from training.monitoring.rates import rates_table

RECENT_DAYS = 30
_NO_CONCERN = 0.05
_REPLICATES = 200
_SEED = 20261130
_MOST = 5000
"""Recent answers that drift and priors are computed from: enough for any difference that matters."""


@dataclass(frozen=True, slots=True, eq=False)
class WatchedModel:
    """What monitoring needs of an artifact.

    Attributes
    ----------
    identity : ModelIdentity
    points : dict of finding to OperatingPoint
    priors : dict of finding to float
        Prevalence that its probabilities are calibrated at.
    """

    identity: ModelIdentity
    findings: FindingSet
    points: dict[str, OperatingPoint]
    priors: dict[str, float]
    reference: MonitoringReference

    @classmethod
    def of(cls, identity: ModelIdentity, artifact: Artifact) -> WatchedModel:
        """What is watched of `artifact`.

        Raises
        ------
        InputError
            It was trained before models had a reference to be watched by.
        """
        names, calibration = artifact.findings.names, artifact.calibration
        if artifact.monitoring is None:
            rule = "must have a monitoring reference, as models trained from now on do"
            raise InputError("model", f"{identity.name} version {identity.version}", rule)
        priors = expit(calibration.prior_log_odds)
        if artifact.findings.exclusive:
            priors = priors / priors.sum()
        return cls(
            identity=identity,
            findings=artifact.findings,
            points=dict(zip(names, calibration.operating_points, strict=True)),
            priors=dict(zip(names, priors.tolist(), strict=True)),
            reference=artifact.monitoring,
        )

    @property
    def tolerance(self) -> float:
        """By how much outcomes may differ from probabilities on average: what is of no concern, and what the held-out
        studies leave open.
        """
        return _NO_CONCERN + 1 / max(self.reference.studies, 1) ** 0.5


@dataclass(frozen=True, slots=True, eq=False)
class MonitorResult:
    """What was found.

    Attributes
    ----------
    since, until : float
        The recent answers, seconds since 1970; `until` itself is not in it.
    started : float
        Since when the tests behind the alarms run.
    recent, tested_answers : int
        How many answers lie between `since` and `until`, and between `started` and `until`.
    tables : dict of str to DataFrame
        ``univariate``, ``multivariate``, ``rates``, ``prior_shift``, ``expected``, ``confirmation``, ``over_time``,
        ``by_group``.
    tested : list of StreamEvidence
    state : AlarmState
        With the alarms that stand, new ones among them.
    """

    model: WatchedModel
    since: float
    until: float
    started: float
    recent: int
    tested_answers: int
    tables: dict[str, pd.DataFrame]
    tested: list[StreamEvidence]
    state: AlarmState
    rule: AlarmRule


def watch(
    model: WatchedModel,
    answers: Iterable[MonitoredAnswer],
    state: AlarmState,
    until: float,
    since: float | None = None,
    rule: AlarmRule | None = None,
) -> MonitorResult:
    """Everything that the `answers` of `model` say; those of other models and roles must have been left out.

    Parameters
    ----------
    answers
        In any order; from `AlarmState.started` on, or earlier.
    until : float
        Seconds since 1970, UTC: later answers and outcomes do not count.
    since : float or None
        From when on answers count as recent; None: `RECENT_DAYS` before `until`. Alarms do not depend on it.
    """
    rule = rule or AlarmRule()
    table = known_until(AnswerTable.of(answers, Layout.of(model.reference)), until)
    if len(table):
        state = state.seen(float(table.times[0]))
    started, with_reference = state.started(until)
    since = until - RECENT_DAYS * DAY if since is None else since
    reference = model.reference if with_reference else None
    tested = run_tests(table, reference, model.tolerance, started, until, rule)
    return MonitorResult(
        model=model,
        since=since,
        until=until,
        started=started,
        recent=len(table.between(since, until)),
        tested_answers=len(table.between(started, until)),
        tables=_tables(model, table, started, since, until),
        tested=tested,
        state=state.raised(tested, started, rule),
        rule=rule,
    )


def known_until(answers: AnswerTable, until: float) -> AnswerTable:
    """As it was known at `until`: without later answers and outcomes."""
    table = answers.between(-np.inf, until)
    later = table.known_at >= until
    for column in (table.labels, table.known_at, table.influenced):
        column[later] = np.nan
    return table


def _tables(
    model: WatchedModel, table: AnswerTable, started: float, since: float, until: float
) -> dict[str, pd.DataFrame]:
    recent, earlier = (_some(one) for one in (table.between(since, until), table.between(started, since)))
    plan = OutcomePlan(model.points, _REPLICATES, _SEED)
    numbers = {"replicates": _REPLICATES, "seed": _SEED}
    return {
        "univariate": univariate_drift(recent, earlier, model.reference),
        "multivariate": multivariate_drift(recent, earlier, model.reference, _SEED),
        "rates": rates_table(table.between(started, until), until),
        "prior_shift": _priors(recent, model, numbers),
        "expected": expected_performance(recent, model.points, **numbers),
        "confirmation": confirmation_table(table, until),
        "over_time": performance_over_time(table, started, until, plan),
        "by_group": performance_by_group(table, until, plan),
    }


def _priors(recent: AnswerTable, model: WatchedModel, numbers: dict[str, int]) -> pd.DataFrame:
    exclusive, studies = model.findings.exclusive, model.reference.studies
    return prior_shift(recent, model.priors, model.points, exclusive=exclusive, calibrated_on=studies, **numbers)


def _some(answers: AnswerTable) -> AnswerTable:
    if len(answers) <= _MOST:
        return answers
    chosen = np.random.default_rng(_SEED).choice(len(answers), _MOST, replace=False)
    return answers.select(np.sort(chosen))
