"""What the year came to: AUROC and calibration error by month, as tables, JSON and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from consilium.system.durable import replace_file, replace_json

if TYPE_CHECKING:
    from consilium.domain.diagnosis import Diagnosis
    from training.cohorts.cohort import Cohort

FIGURE, DOCUMENT = "year.png", "year.json"
_METRICS = {"auroc": "AUROC", "ece": "calibration error (ECE)"}
_CHANCE = "ece_by_chance"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the timeline.

    Attributes
    ----------
    kind : str
        ``promoted``, ``monitor``, ``alarm``, ``trained``, ``gate passed``, ``gate refused``, ``rollout``, ``stopped``.
    version : str
        Of the model; empty where it is about none.
    """

    time: datetime
    kind: str
    text: str
    version: str = ""

    def __str__(self) -> str:
        return f"{self.time:%d %b}  {self.kind:<12}  {self.text}"

    def to_json(self) -> dict[str, str]:
        return asdict(self) | {"time": self.time.isoformat()}


@dataclass(slots=True)
class YearReport:
    """The year as it went.

    Attributes
    ----------
    months : list of mapping
        Of each month the metrics ``with_loop`` and ``without``, on all of its studies, by their truth.
    """

    events: list[Event] = field(default_factory=list)
    months: list[Mapping[str, Any]] = field(default_factory=list)
    first: str = ""
    last: str = ""

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    def to_json(self, numbers: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "year": dict(numbers),
            "first_champion": self.first,
            "last_champion": self.last,
            "events": [event.to_json() for event in self.events],
            "months": list(self.months),
        }

    def save(self, folder: Path, numbers: Mapping[str, Any]) -> None:
        replace_json(folder / DOCUMENT, self.to_json(numbers))
        replace_file(folder / FIGURE, figure(self.months, self.of("promoted"), self.of("alarm")))


def performance(diagnoses: Mapping[str, Diagnosis], cohort: Cohort) -> dict[str, float]:
    """AUROC, ECE and the ECE that chance leaves, mean over findings, of the studies in `diagnoses`."""
    from training.evaluation.metrics import Sample, macro

    rows = [row for row, record in enumerate(cohort.records) if record.study_id in diagnoses]
    given = [diagnoses[cohort.records[row].study_id] for row in rows]
    probabilities = np.array([[one[name].probability for name in cohort.findings.names] for one in given])
    figures = macro(Sample(cohort.labels[rows], np.ones((1, len(rows)))).measure(probabilities)).figures
    return {name: float(figures[name][0]) for name in (*_METRICS, _CHANCE)}


def figure(months: Sequence[Mapping[str, Any]], promoted: Sequence[Event], alarms: Sequence[Event]) -> bytes:
    """PNG: a panel a metric, with and without the loop; alarms and promotions as upright lines."""
    import io

    from training.figures.panels import label_outer, panel_grid

    drawn, panels = panel_grid(len(_METRICS), shared=False)
    at = [month["month"] for month in months]
    for panel, (metric, name) in zip(panels, _METRICS.items(), strict=True):
        panel.plot(at, [month["with_loop"][metric] for month in months], marker="o", label="with the loop")
        panel.plot(at, [month["without"][metric] for month in months], marker="s", ls="--", label="first champion")
        if metric == "ece":
            panel.plot(at, [month["with_loop"][_CHANCE] for month in months], color="grey", ls=":", label="by chance")
        for events, colour, what in ((alarms, "tab:red", "alarm"), (promoted, "tab:green", "promoted")):
            for number, event in enumerate(events):
                label = what if number == 0 else None
                panel.axvline(_place(event.time, promoted[0].time.year), color=colour, alpha=0.5, label=label)
        panel.set_title(name)
        label_outer(panel, "month", "")
        panel.legend(fontsize="small")
    out = io.BytesIO()
    drawn.savefig(out, format="png", dpi=120)
    return out.getvalue()


def _place(time: datetime, year: int) -> float:
    """On the axis of months: a month's figures stand at its number, its first day half a month before."""
    return 12 * (time.year - year) + time.month - 0.5 + (time.day - 1) / 31
