"""Figures for those who run the service: of the answers in the audit log, and of what readers made of them.

Synchronous: `study_runner` runs it on threads.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Row, func, select
from sqlalchemy.orm import Session

from consilium.api.schemas import AgreementFigure, DayFigures, HourFigures, StageFigure, VersionFigure
from service.audit_log.store import Store
from service.audit_log.tables import JobRow, MonitoringRow, ResultRow, StudyReadRow, StudyRow
from service.audit_log.tasks.study_answers import ANSWERED, RECEIVING, REFUSED
from service.jobs.caller_store import OPEN

_DAYS = 30
_HOURS = 48
_MOST_ANSWERS = 20_000
_MOST_READS = 5_000
_MOST_COMPARED = 2_000
_UNUSUAL = 0.05
_SHADOW = "shadow"
_AT_ONCE = 500
_CALLED = ResultRow.request_id, ResultRow.input_digests, ResultRow.findings

_Answered = tuple[str, frozenset[tuple[str, str]]]
"""A request, and the records of it that were answered."""


class Figures:
    """What is counted of the audit log's database."""

    def __init__(self, store: Store) -> None:
        self._database = store.database

    def counted(self) -> dict[str, Any]:
        """The figures of `OperationsAnswer`, by its names, but for what the running service knows; and who waits."""
        since = datetime.now(UTC) - timedelta(days=_DAYS)
        with self._database.reading() as session:
            answers, studies = _answers(session, since), _studies(session, since)
            return {
                "versions": _versions(session, since, answers),
                "days": [DayFigures(day=day, **rates) for day, rates in _rates(answers, studies, datetime.date)],
                "hours": [HourFigures(hour=hour, **rates) for hour, rates in _hours(answers, studies)],
                "stages": _stages(answers),
                "agreement": _agreement(session, since),
                "answers_looked_at": len(answers),
                "studies": _count(session, StudyRow.state.in_((RECEIVING, *OPEN))),
                "jobs": _count(session, JobRow.state.in_((RECEIVING, *OPEN))),
            }


def _count(session: Session, which: Any) -> int:
    return session.scalar(select(func.count()).where(which)) or 0


def _answers(session: Session, since: datetime) -> Sequence[Row[Any]]:
    return _latest(session, since, ResultRow.role != _SHADOW, _MOST_ANSWERS)


def _latest(session: Session, since: datetime, which: ColumnElement[bool], most: int) -> Sequence[Row[Any]]:
    """The latest answers, with what monitoring kept of them."""
    whose = ResultRow.model_name, ResultRow.model_version, ResultRow.role
    columns = ResultRow.time, ResultRow.latencies_ms, MonitoringRow.referred, MonitoringRow.p_values
    wanted = select(*whose, *columns).join(MonitoringRow, MonitoringRow.result_id == ResultRow.result_id, isouter=True)
    wanted = wanted.where(ResultRow.time >= since, which)
    return session.execute(wanted.order_by(ResultRow.time.desc()).limit(most)).all()


def _versions(session: Session, since: datetime, answers: Sequence[Row[Any]]) -> list[VersionFigure]:
    which = ResultRow.model_name, ResultRow.model_version, ResultRow.role
    last = func.max(ResultRow.time)
    counted = select(*which, func.count(), func.min(ResultRow.time), last).where(ResultRow.time >= since)
    found = session.execute(counted.group_by(*which).order_by(last.desc())).all()
    shadowed = any(row.role == _SHADOW for row in found)
    of_shadow = _latest(session, since, ResultRow.role == _SHADOW, _MOST_COMPARED) if shadowed else []
    shares = _shares([*answers, *of_shadow])
    compared = _compared(session, since) if shadowed else {}
    versions = []
    for model, version, role, given, first, latest in found:
        named = {"model": model, "version": version, "role": role, "answers": given, "first": first, "last": latest}
        pairs = compared.get((model, version), (0, 0)) if role == _SHADOW else (None, None)
        beside = {"compared": pairs[0], "agreeing": pairs[1]}
        versions.append(VersionFigure.model_validate(named | beside | shares.get((model, version, role), {})))
    return versions


def _compared(session: Session, since: datetime) -> dict[tuple[str, str], tuple[int, int]]:
    """Of each shadow how many of its latest answers stand beside another one, and how many call the same."""
    shadow = ResultRow.role == _SHADOW, ResultRow.time >= since
    wanted = select(ResultRow.model_name, ResultRow.model_version, *_CALLED).where(*shadow)
    shadows = session.execute(wanted.order_by(ResultRow.time.desc()).limit(_MOST_COMPARED)).all()
    others = _others(session, since, {_answered(row) for row in shadows})
    found: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for row in shadows:
        calls = others.get(_answered(row))
        if calls is not None:
            found[row.model_name, row.model_version].append(_calls(row.findings) == calls)
    return {version: (len(same), sum(same)) for version, same in found.items()}


def _others(session: Session, since: datetime, wanted: Set[_Answered]) -> dict[_Answered, dict[str, bool]]:
    """What the latest answer that is no shadow's calls of each of `wanted`: the studies of a job have one request."""
    of = (
        ResultRow.role != _SHADOW,
        ResultRow.time >= since,
        ResultRow.request_id.in_({request for request, _ in wanted}),
    )
    latest = select(*_CALLED).where(*of).order_by(ResultRow.time.desc()).limit(_MOST_ANSWERS)
    found: dict[_Answered, dict[str, bool]] = {}
    for row in session.execute(latest.execution_options(yield_per=_AT_ONCE)):
        answered = _answered(row)
        if answered in wanted:
            found.setdefault(answered, _calls(row.findings))
    return found


def _answered(row: Row[Any]) -> _Answered:
    return row.request_id, frozenset(row.input_digests.items())


def _calls(findings: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    return {one["finding"]: one["call"] for one in findings}


def _shares(answers: Sequence[Row[Any]]) -> dict[tuple[str, str, str], dict[str, float | None]]:
    """Referrals and out-of-distribution answers of each version in each role."""
    found: dict[tuple[str, str, str], list[Row[Any]]] = defaultdict(list)
    for row in answers:
        if row.referred is not None:
            found[row.model_name, row.model_version, row.role].append(row)
    return {version: _monitored(rows) for version, rows in found.items()}


def _studies(session: Session, since: datetime) -> Sequence[Any]:
    """When stored studies came, and what became of them; priors that were fetched beside them aside."""
    ended = StudyRow.state.in_((ANSWERED, REFUSED)), StudyRow.beside.is_(None), StudyRow.submitted >= since
    wanted = select(StudyRow.submitted.label("time"), StudyRow.state).where(*ended)
    return session.execute(wanted.order_by(StudyRow.submitted.desc()).limit(_MOST_ANSWERS)).all()


def _hours(answers: Sequence[Row[Any]], studies: Sequence[Row[Any]]) -> Iterator[tuple[datetime, dict[str, Any]]]:
    begun = _hour(datetime.now(UTC)) - timedelta(hours=_HOURS - 1)
    lately, came = ([one for one in rows if one.time >= begun] for rows in (answers, studies))
    return _rates(lately, came, _hour)


def _hour(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)


def _rates(
    answers: Sequence[Row[Any]], studies: Sequence[Row[Any]], part: Callable[[datetime], Any]
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The figures of each part of the time in which something came, earliest first."""
    answered: dict[Any, list[Row[Any]]] = defaultdict(list)
    came: dict[Any, list[Row[Any]]] = defaultdict(list)
    for rows, found in ((answers, answered), (studies, came)):
        for one in rows:
            found[part(one.time)].append(one)
    for when in sorted({*answered, *came}):
        times = [sum(one.latencies_ms.values()) for one in answered[when]]
        yield (
            when,
            {
                "answers": len(answered[when]),
                **_monitored([one for one in answered[when] if one.referred is not None]),
                "refused": _share([one.state == REFUSED for one in came[when]]),
                "median_ms": float(np.median(times)) if times else None,
                "p95_ms": float(np.percentile(times, 95)) if times else None,
            },
        )


def _monitored(answers: Sequence[Row[Any]]) -> dict[str, float | None]:
    unusual = [min(one.p_values.values(), default=1.0) < _UNUSUAL for one in answers]
    return {"referred": _share([one.referred for one in answers]), "out_of_distribution": _share(unusual)}


def _share(whether: Sequence[bool]) -> float | None:
    return sum(whether) / len(whether) if whether else None


def _stages(answers: Sequence[Row[Any]]) -> list[StageFigure]:
    times: dict[str, list[float]] = defaultdict(list)
    for one in answers:
        for stage, milliseconds in one.latencies_ms.items():
            times[stage].append(milliseconds)
    return [
        StageFigure(stage=stage, median=float(np.median(found)), p95=float(np.percentile(found, 95)))
        for stage, found in sorted(times.items())
    ]


def _agreement(session: Session, since: datetime) -> list[AgreementFigure]:
    """Of each reader's latest read without influence of each study."""
    wanted = select(StudyReadRow, ResultRow.findings).join(ResultRow, ResultRow.result_id == StudyReadRow.result_id)
    wanted = wanted.where(StudyReadRow.influenced.is_(False), StudyReadRow.time >= since)
    latest: dict[Any, tuple[Mapping[str, str], list[Any]]] = {}
    for read, findings in session.execute(wanted.order_by(StudyReadRow.time.desc()).limit(_MOST_READS)):
        latest.setdefault((read.study_id, read.caller), (read.findings, findings))
    reads: Counter[str] = Counter()
    agree: Counter[str] = Counter()
    for states, findings in latest.values():
        calls = _calls(findings)
        for finding, state in states.items():
            if state != "unknown" and finding in calls:
                reads[finding] += 1
                agree[finding] += (state == "present") == calls[finding]
    return [AgreementFigure(finding=name, reads=reads[name], agree=agree[name]) for name in sorted(reads)]
