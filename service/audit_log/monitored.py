"""Reads back what was kept of a model's answers for monitoring, with what was confirmed of them since.

Whoever has the audit log's database can read it, without its keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Row, Select, select, tuple_
from sqlalchemy.orm import Session

from consilium.monitoring.monitored_answer import ConfirmedOutcome, MonitoredAnswer
from service.audit_log.database import Database
from service.audit_log.tables import FeedbackRow, MonitoringRow, ResultRow

_ROWS_AT_ONCE = 500


def monitored_answers(
    database: Database,
    model: str,
    *,
    version: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[MonitoredAnswer]:
    """Every answer of `model` that monitoring knows, oldest first, a page at a time: there may be millions.

    Answers of all roles; those given while ``CONSILIUM_MONITORING`` was false are not among them.

    Parameters
    ----------
    version : str, optional
        Of this version alone.
    since, until : datetime, optional
        Given at `since` or later, and before `until`; with an offset from UTC.

    Raises
    ------
    AuditLogUnavailable
    """
    place = ResultRow.time, ResultRow.result_id
    page = _of_model(model, version, since, until).order_by(*place).limit(_ROWS_AT_ONCE)
    wanted = page
    while True:
        # A session for each page, so that no reader holds the log while what was read is used.
        with database.reading() as session:
            rows = session.execute(wanted).all()
            outcomes = _outcomes(session, [row.result_id for row in rows])
        yield from (_answer(row, outcomes[row.result_id]) for row in rows)
        if len(rows) < _ROWS_AT_ONCE:
            return
        wanted = page.where(tuple_(*place) > (rows[-1].time, rows[-1].result_id))


def _of_model(model: str, version: str | None, since: datetime | None, until: datetime | None) -> Select[tuple[object]]:
    columns = (
        *(ResultRow.result_id, ResultRow.time, ResultRow.role, ResultRow.model_name, ResultRow.model_version),
        *(ResultRow.manifest_digest, ResultRow.findings, ResultRow.patient, ResultRow.latencies_ms),
        *(MonitoringRow.referred, MonitoringRow.present, MonitoringRow.p_values, MonitoringRow.projections),
        MonitoringRow.categories,
    )
    wanted: Select[tuple[object]] = select(*columns).join(MonitoringRow, MonitoringRow.result_id == ResultRow.result_id)
    wanted = wanted.where(ResultRow.model_name == model)
    if version is not None:
        wanted = wanted.where(ResultRow.model_version == version)
    if since is not None:
        wanted = wanted.where(ResultRow.time >= since)
    return wanted if until is None else wanted.where(ResultRow.time < until)


def _outcomes(session: Session, result_ids: Sequence[UUID]) -> dict[UUID, list[ConfirmedOutcome]]:
    found: dict[UUID, list[ConfirmedOutcome]] = {result_id: [] for result_id in result_ids}
    wanted = select(FeedbackRow).where(FeedbackRow.result_id.in_(result_ids))
    for line in session.scalars(wanted.order_by(FeedbackRow.time, FeedbackRow.feedback_id, FeedbackRow.finding)):
        outcome = ConfirmedOutcome(line.finding, line.state, line.time, line.source, line.influenced)  # type: ignore[arg-type]  # the columns hold these words alone
        found[line.result_id].append(outcome)
    return found


def _answer(row: Row[tuple[object]], outcomes: Sequence[ConfirmedOutcome]) -> MonitoredAnswer:
    return MonitoredAnswer(
        result_id=row.result_id,
        time=row.time,
        role=row.role,
        model_name=row.model_name,
        model_version=row.model_version,
        manifest_digest=row.manifest_digest,
        probabilities={one["finding"]: one["probability"] for one in row.findings},
        prediction_sets={one["finding"]: tuple(one["prediction_set"]) for one in row.findings},
        referred=row.referred,
        present=frozenset(row.present),
        p_values=row.p_values,
        projections={part: tuple(figures) for part, figures in row.projections.items()},
        categories=row.categories,
        latency_ms=sum(row.latencies_ms.values()),
        patient=row.patient,
        outcomes=tuple(outcomes),
    )
