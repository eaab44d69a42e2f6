"""What the monitor found as gauges, which the service shows Prometheus."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from training.monitoring.monitor import MonitorResult

Gauge = dict[str, Any]
"""``name``, ``labels`` (a mapping of text to text) and ``value``."""


def gauges(result: MonitorResult) -> list[Gauge]:
    """Everything worth a time series; figures that could not be measured are left out."""
    return [one for one in _all(result) if math.isfinite(one["value"])]


def _all(result: MonitorResult) -> Iterator[Gauge]:
    model = {"model": result.model.identity.name, "version": result.model.identity.version}

    def gauge(name: str, value: float, **labels: str) -> Gauge:
        return {"name": f"consilium_monitor_{name}", "labels": model | labels, "value": float(value)}

    yield gauge("until_seconds", result.until)
    yield gauge("answers", result.recent)
    yield gauge("alarms", len(result.state.alarms))
    yield from (gauge("alarm", 1, kind=one.kind, label=one.label) for one in result.state.alarms)
    for one in result.tested:
        yield gauge("evidence", one.log_e_value / -math.log(one.alpha), kind=one.kind, label=one.label)
    univariate = result.tables["univariate"]
    for against, lines in univariate.groupby("against"):
        yield gauge("drifted", int(lines.drifted.sum()), against=str(against))
    for line in result.tables["prior_shift"].to_dict("records"):
        yield gauge("prevalence", line["estimate"], finding=line["finding"])
    for line in result.tables["expected"].to_dict("records"):
        yield gauge("expected_auroc", line["auroc"], finding=line["finding"])
    over_time = result.tables["over_time"]
    if len(over_time):
        for line in over_time.groupby(["finding", "reads"]).last().reset_index().to_dict("records"):
            labels = {"finding": line["finding"], "reads": line["reads"]}
            yield gauge("auroc", line["auroc"], **labels)
            yield gauge("calibration_error", line["ece"], **labels)
