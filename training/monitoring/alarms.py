"""Alarms: sequential tests of "nothing has changed since the reference", with one false-alarm rate for a year of them.

One test a stream: each finding's probability, each part's out-of-distribution p-value and every direction of its
features, each modality's presence, referral, each category, and how often each finding is confirmed. Probabilities and
features are compared twice: with the answers before them, and with the held-out studies as well, whose noise protects
their patients and hides small changes. The rate is divided equally among the streams, so that the chance of any alarm
in a year without change is at most the whole.
Each day counts once it is over, its answers in an order that was drawn with their ids: what differs between morning and
night is no change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from consilium.monitoring.reference import MonitoringReference
from training.monitoring.answers import AnswerTable
from training.monitoring.betting import betting_functions, capital_after_change, excess_growth
from training.monitoring.exchangeability import category_p_values, drawn_order, growing_p_values, seeded

Floats = npt.NDArray[np.float64]

DAY = 86400.0
YEAR_DAYS = 365


@dataclass(frozen=True, slots=True)
class AlarmRule:
    """When an alarm is raised.

    Attributes
    ----------
    yearly_rate : float
        Chance of any alarm in a year without change, at most.
    block_days : int
        Answers count once so many days are over, in an order without time. 7 hides the difference between weekdays and
        weekends, and finds a change up to a week later.
    """

    yearly_rate: float = 0.05
    block_days: int = 1

    @property
    def blocks(self) -> int:
        """In a year."""
        return -(-YEAR_DAYS // self.block_days)


@dataclass(frozen=True, slots=True, eq=False)
class StreamEvidence:
    """One stream's evidence.

    Attributes
    ----------
    kind, label : str
        What it watches, and of what: ``probability``, ``pneumonia``.
    count : int
        Of what was tested
    blocks : int [P]
        Of the year, those that have an observation.
    log_capital : float [P]
        Logarithm of the e-process after each.
    alpha : float
        The stream's share of the yearly rate.
    """

    kind: str
    label: str
    count: int
    blocks: npt.NDArray[np.int64]
    log_capital: Floats
    alpha: float

    @property
    def name(self) -> str:
        return f"{self.kind} {self.label}".strip()

    @property
    def crossed(self) -> int | None:
        """Block in which the capital reached 1/alpha first; None: never."""
        over = np.flatnonzero(self.log_capital >= -np.log(self.alpha))
        return int(self.blocks[over[0]]) if len(over) else None

    @property
    def log_e_value(self) -> float:
        """The largest that the e-process has been."""
        return float(self.log_capital.max(initial=0.0))


@dataclass(frozen=True, slots=True, eq=False)
class WatchedColumn:
    """A stream before it is tested.

    Attributes
    ----------
    stream : float or str [N]
        Of the answers; NaN where there is none.
    reference : float [R]
        What they are compared with beside those that came before; may be empty.
    """

    kind: str
    label: str
    stream: npt.NDArray
    reference: Floats


def run_tests(
    answers: AnswerTable,
    reference: MonitoringReference | None,
    tolerance: float,
    started: float,
    until: float,
    rule: AlarmRule | None = None,
) -> list[StreamEvidence]:
    """Every stream's evidence from `started` on, at most a year, until the last whole block before `until`.

    Parameters
    ----------
    reference : MonitoringReference or None
        None: only changes among the answers themselves are looked for.
    tolerance : float
        By how much the mean outcome may differ from the mean probability.
    started, until : float
        Seconds since 1970, UTC.
    """
    rule = rule or AlarmRule()
    blocks_over = min(int((until - started) // (DAY * rule.block_days)), rule.blocks)
    end = started + max(blocks_over, 0) * rule.block_days * DAY
    here = answers.between(started, end).first_of_each_patient()
    here = here.select(np.lexsort([drawn_order(here.keys.tolist()), _blocks(here.times, started, rule)]))
    blocks = _blocks(here.times, started, rule)
    columns = [*own_columns(here), *([] if reference is None else reference_columns(here, reference))]
    outcomes = list(_outcome_bets(answers, tolerance, started, end))
    alpha = rule.yearly_rate / (len(columns) + len(outcomes))
    tested = [_test_column(one, blocks, alpha, rule) for one in columns]
    for kind, finding, times, growth in outcomes:
        when = _blocks(times, started, rule)
        tested.append(StreamEvidence(kind, finding, len(when), *capital_after_change(growth, when, rule.blocks), alpha))
    return tested


def _blocks(times: Floats, started: float, rule: AlarmRule) -> npt.NDArray[np.int64]:
    return ((times - started) // (DAY * rule.block_days)).astype(np.int64)


def own_columns(answers: AnswerTable) -> Iterator[WatchedColumn]:
    """What is compared with the answers before it."""
    none = np.zeros(0)
    for f, finding in enumerate(answers.findings):
        yield WatchedColumn("probability", finding, answers.probabilities[:, f], none)
    for part, values in answers.p_values.items():
        yield WatchedColumn("typicality", part, values, none)
    for part, rows in answers.projections.items():
        for d in range(rows.shape[1]):
            yield WatchedColumn("features", f"{part} {d + 1}", rows[:, d], none)
    for name, there in answers.present.items():
        yield WatchedColumn("presence", name, there.astype(np.float64), none)
    yield WatchedColumn("referral", "", answers.referred.astype(np.float64), none)
    for name, categories in answers.categories.items():
        yield WatchedColumn("category", name, categories, none)


def reference_columns(answers: AnswerTable, reference: MonitoringReference) -> Iterator[WatchedColumn]:
    """What is compared with the held-out studies, too, under the same noise as theirs."""
    for f, finding in enumerate(answers.findings):
        noisy = reference.noisy_log_odds(finding, answers.probabilities[:, f], seeded(f"log odds {finding}"))
        yield WatchedColumn("held-out probability", finding, noisy, np.asarray(reference.log_odds[finding], np.float64))
    for part, rows in reference.rows.items():
        noisy = reference.noisy_projections(answers.projections[part], seeded(f"projections {part}"))
        for d in range(rows.shape[1]):
            yield WatchedColumn("held-out features", f"{part} {d + 1}", noisy[:, d], np.asarray(rows[:, d], np.float64))


def _test_column(one: WatchedColumn, blocks: npt.NDArray[np.int64], alpha: float, rule: AlarmRule) -> StreamEvidence:
    draws = seeded(f"{one.kind} {one.label}")
    if one.kind == "category":
        kept = np.ones(len(one.stream), bool)
        p_values = category_p_values(one.stream, draws.random(len(one.stream)))
    else:
        kept = ~np.isnan(one.stream)
        p_values = growing_p_values(one.reference, one.stream[kept], draws.random(int(kept.sum())))
    capital = capital_after_change(np.log(betting_functions(p_values)), blocks[kept], rule.blocks)
    return StreamEvidence(one.kind, one.label, len(p_values), *capital, alpha)


def _outcome_bets(
    answers: AnswerTable, tolerance: float, started: float, end: float
) -> Iterator[tuple[str, str, Floats, Floats]]:
    """Kind, finding, times of the outcomes and growth of the bets on them, in the order in which they became known.

    Calibration alone: who is confirmed may hang on the probability, which distorts sensitivity and specificity, and not
    how often a finding is there at that probability.
    """
    for f, finding in enumerate(answers.findings):
        known_at, label = answers.known_at[:, f], answers.labels[:, f]
        usable = (known_at >= started) & (known_at < end) & ~np.isnan(label) & (answers.influenced[:, f] != 1)
        rows = np.flatnonzero(usable)
        rows = rows[np.argsort(known_at[rows], kind="stable")]
        surplus = label[rows] - answers.probabilities[rows, f]
        both = [excess_growth(one, tolerance) for one in (surplus, -surplus)]
        yield "calibration", finding, known_at[rows], np.concatenate(both)
