"""Figures for those who run the service: of the answers in the audit log, and of what readers made of them.

Synchronous: `study_runner` runs it on threads.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session

from consilium.api.schemas import AgreementFigure, DayFigures, StageFigure, VersionFigure
from service.audit_log.store import Store
from service.audit_log.tables import JobRow, MonitoringRow, ResultRow, StudyReadRow, StudyRow
from service.audit_log.tasks.study_answers import RECEIVING
from service.jobs.caller_store import OPEN

_DAYS = 30
_MOST_ANSWERS = 20_000
_MOST_READS = 5_000
_UNUSUAL = 0.05
_SHADOW = "shadow"


class Figures:
    """What is counted of the audit log's database."""

    def __init__(self, store: Store) -> None:
        self._database = store.database

    def counted(self) -> dict[str, Any]:
        """The figures of `OperationsAnswer`, by its names, but for what the running service knows; and who waits."""
        since = datetime.now(UTC) - timedelta(days=_DAYS)
        with self._database.reading() as session:
            answers = _answers(session, since)
            return {
                "versions": _versions(session, since),
                "days": _days(answers),
                "stages": _stages(answers),
                "agreement": _agreement(session, since),
                "answers_looked_at": len(answers),
                "studies": _count(session, StudyRow.state.in_((RECEIVING, *OPEN))),
                "jobs": _count(session, JobRow.state.in_((RECEIVING, *OPEN))),
            }


def _count(session: Session, which: Any) -> int:
    return session.scalar(select(func.count()).where(which)) or 0


def _answers(session: Session, since: datetime) -> Sequence[Row[Any]]:
    columns = ResultRow.time, ResultRow.latencies_ms, MonitoringRow.referred, MonitoringRow.p_values
    wanted = select(*columns).join(MonitoringRow, MonitoringRow.result_id == ResultRow.result_id, isouter=True)
    wanted = wanted.where(ResultRow.time >= since, ResultRow.role != _SHADOW)
    return session.execute(wanted.order_by(ResultRow.time.desc()).limit(_MOST_ANSWERS)).all()


def _versions(session: Session, since: datetime) -> list[VersionFigure]:
    which = ResultRow.model_name, ResultRow.model_version, ResultRow.role
    last = func.max(ResultRow.time)
    counted = select(*which, func.count(), func.min(ResultRow.time), last).where(ResultRow.time >= since)
    return [
        VersionFigure(model=model, version=version, role=role, answers=answers, first=first, last=latest)
        for model, version, role, answers, first, latest in session.execute(
            counted.group_by(*which).order_by(last.desc())
        )
    ]


def _days(answers: Sequence[Row[Any]]) -> list[DayFigures]:
    of_day: dict[date, list[Row[Any]]] = defaultdict(list)
    for one in answers:
        of_day[one.time.date()].append(one)
    return [_day(day, of_day[day]) for day in sorted(of_day)]


def _day(day: date, answers: Sequence[Row[Any]]) -> DayFigures:
    monitored = [one for one in answers if one.referred is not None]
    unusual = [min(one.p_values.values(), default=1.0) < _UNUSUAL for one in monitored]
    return DayFigures(
        day=day,
        answers=len(answers),
        referred=_share([one.referred for one in monitored]),
        out_of_distribution=_share(unusual),
    )


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
        calls = {one["finding"]: one["call"] for one in findings}
        for finding, state in states.items():
            if state != "unknown" and finding in calls:
                reads[finding] += 1
                agree[finding] += (state == "present") == calls[finding]
    return [AgreementFigure(finding=name, reads=reads[name], agree=agree[name]) for name in sorted(reads)]
