"""What follows from the evidence: stop, go on, or wait.

A rule on a share stops a version when the share's confidence bound is beyond what the rule allows. The bounds hold at
all looks together, however often the audit log is looked at (a stitched boundary of sums of bounded variables: Howard,
Ramdas, McAuliffe and Sekhon, Annals of Statistics 49, 2021, equation 10 with their recommended constants), so that a
version which is no worse than the rules allow is stopped with a probability of at most `alpha` in the whole rollout.
To go on, a version must also look no worse than the rules allow.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from math import log, sqrt

from service.rollout.rollout_evidence import Evidence
from service.rollout.rollout_plan import RolloutPlan, Stage

_ENOUGH_FOR_LATENCY = 20
"""Answers of each from which medians of times are compared, or as many as the stage asks for."""


class Action(StrEnum):
    """What to do now."""

    WAIT = "wait"
    ADVANCE = "advance"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and why: one sentence each."""

    action: Action
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Rule:
    """One rule as it stands: broken for certain, or as it looks, or neither."""

    broken: bool
    looks_broken: bool
    sentence: str


def judge(plan: RolloutPlan, stage: Stage, evidence: Evidence, since: datetime, now: datetime) -> Verdict:
    """What to do in `stage`, which began at `since`, with what the audit log shows."""
    rules = _rules(plan, stage, evidence)
    broken = tuple(rule.sentence for rule in rules if rule.broken)
    if broken:
        return Verdict(Action.STOP, broken)
    waits = []
    end = since + timedelta(hours=stage.hours)
    if now < end:
        waits.append(f"lasts until {end:%Y-%m-%d %H:%M} UTC")
    if evidence.candidate.answers < stage.answers:
        waits.append(f"has {evidence.candidate.answers} of {stage.answers} answers")
    waits += [f"looks worse than allowed: {rule.sentence}" for rule in rules if rule.looks_broken]
    if waits:
        return Verdict(Action.WAIT, tuple(waits))
    return Verdict(Action.ADVANCE, tuple(rule.sentence for rule in rules) or ("no rule applies",))


def _rules(plan: RolloutPlan, stage: Stage, evidence: Evidence) -> list[_Rule]:
    stop, mine, theirs = plan.stop, evidence.candidate, evidence.serving
    alpha = plan.alpha / (3 * len(plan.stages))
    rules = []
    if stop.agreement is not None and stage.role == "shadow" and evidence.pairs:
        share, radius = evidence.agreeing / evidence.pairs, _radius(evidence.pairs, alpha)
        sentence = f"agrees on {share:.1%} of {evidence.pairs} studies, at least {stop.agreement:.1%} is asked for"
        rules.append(_Rule(share + radius < stop.agreement, share < stop.agreement, sentence))
    if stop.referral is not None:
        of = (mine.referred, mine.answers, theirs.referred, theirs.answers)
        rules.append(_difference("refers", of, stop.referral, alpha))
    if stop.errors is not None:
        of = (mine.wrong, mine.confirmed, theirs.wrong, theirs.confirmed)
        rules.append(_difference("is wrong on", of, stop.errors, alpha))
    if stop.latency is not None and stage.role == "canary" and mine.median_ms is not None and theirs.median_ms:
        times = mine.median_ms / theirs.median_ms
        slow = times > stop.latency and min(mine.answers, theirs.answers) >= min(stage.answers, _ENOUGH_FOR_LATENCY)
        sentence = f"takes {times:.2f} of the serving model's time, at most {stop.latency:g} is allowed"
        rules.append(_Rule(slow, times > stop.latency, sentence))
    return rules


def _difference(what: str, counts: tuple[int, int, int, int], margin: float, alpha: float) -> _Rule:
    """A rule on how much larger a share is than the serving model's; nothing is known where one of them has none."""
    own, of, other, among = counts
    if not of or not among:
        return _Rule(broken=False, looks_broken=False, sentence=f"{what}: nothing to compare yet")
    worse = own / of - other / among
    radius = _radius(of, alpha / 2) + _radius(among, alpha / 2)
    shares = f"{what} {own / of:.1%} of {of}, the serving model {other / among:.1%} of {among}"
    sentence = f"{shares}; {margin:.1%} more is allowed"
    return _Rule(worse - radius > margin, worse > margin, sentence)


def _radius(number: int, alpha: float) -> float:
    """Of a one-sided bound on a mean of `number` variables within [0, 1], at all numbers together."""
    variance = max(number / 4, 1.0)
    return 1.7 * sqrt(variance * (log(log(2 * variance)) + 0.72 * log(5.2 / alpha))) / number
