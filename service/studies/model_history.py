"""What the service itself recorded of its models: loaded and refused versions, and how probabilities met outcomes.

Synchronous: `study_runner` runs it on threads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from consilium.api.schemas import CalibrationPoint, FindingCalibration, ModelHistoryAnswer
from service.audit_log.deployment_log import latest_events
from service.audit_log.store import Store
from service.audit_log.tables import FeedbackRow, ResultRow

LEAST_OUTCOMES = 20
"""Of one point of a curve: of fewer a frequency says nothing."""
_MOST_POINTS = 10
_MOST_OUTCOMES = 50_000
_MOST_EVENTS = 50
_Z = 1.959964
"""Of a normal distribution, for an interval of 95 %."""


class ModelHistory:
    """Of the audit log's database."""

    def __init__(self, store: Store) -> None:
        self._database = store.database

    def of(self, manifest_digest: str) -> ModelHistoryAnswer:
        """The events of all models, and the calibration of the one with `manifest_digest`."""
        with self._database.reading() as session:
            outcomes = _outcomes(session, manifest_digest)
        curves = [
            FindingCalibration(finding=name, outcomes=len(found), points=tuple(calibration_points(found)))
            for name, found in sorted(outcomes.items())
        ]
        events = latest_events(self._database, _MOST_EVENTS)
        return ModelHistoryAnswer(events=tuple(events), calibration=tuple(curves))


def calibration_points(outcomes: Sequence[tuple[float, bool]]) -> list[CalibrationPoint]:
    """Mean probability beside observed frequency, in bins of equal mass; none of fewer than `LEAST_OUTCOMES`.

    Parameters
    ----------
    outcomes : sequence of (float, bool)
        Probabilities that were answered, and whether the finding was confirmed as present.

    Returns
    -------
    list of CalibrationPoint
        By rising probability, the frequencies with their Wilson interval of 95 %.
    """
    bins = min(_MOST_POINTS, len(outcomes) // LEAST_OUTCOMES)
    if not bins:
        return []
    parts = np.array_split(np.array(sorted(outcomes), dtype=np.float64), bins)
    return [_point(part[:, 0], part[:, 1]) for part in parts]


def _point(probabilities: Any, present: Any) -> CalibrationPoint:
    n, share = len(present), float(present.mean())
    # Wilson, Journal of the American Statistical Association 1927.
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    low, high = max(0.0, float(middle - half)), min(1.0, float(middle + half))
    return CalibrationPoint(
        predicted=float(probabilities.mean()), observed=share, observed_low=low, observed_high=high, outcomes=n
    )


def _outcomes(session: Session, manifest_digest: str) -> dict[str, list[tuple[float, bool]]]:
    """Of each finding the answered probability, and the latest that was confirmed of it; influenced reads aside."""
    columns = FeedbackRow.result_id, FeedbackRow.finding, FeedbackRow.state, ResultRow.findings
    wanted = select(*columns).join(ResultRow, ResultRow.result_id == FeedbackRow.result_id)
    wanted = wanted.where(ResultRow.manifest_digest == manifest_digest, FeedbackRow.influenced.is_not(True))
    found: dict[tuple[UUID, str], tuple[str, list[Any]]] = {}
    for row in session.execute(wanted.order_by(FeedbackRow.time.desc()).limit(_MOST_OUTCOMES)):
        found.setdefault((row.result_id, row.finding), (row.state, row.findings))
    outcomes: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for (_, finding), (state, answered) in found.items():
        probability = next((one["probability"] for one in answered if one["finding"] == finding), None)
        if state != "unknown" and probability is not None:
            outcomes[finding].append((probability, state == "present"))
    return outcomes
