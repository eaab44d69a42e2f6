"""What an audit ends in: tables, concerns and one verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pandas as pd
from rich.console import RenderableType
from rich.text import Text

from consilium.domain.diagnosis import AuditVerdict, Verdict
from consilium.output.labels import share
from training.audit.terminal import frame_table

REMARK: Final = "remark"
SUSPECT: Final = "suspect"
UNUSABLE: Final = "unusable"
"""How grave a concern is. A remark changes no verdict."""
GRADES = (REMARK, SUSPECT, UNUSABLE)
"""The least grave first."""
SOUND: Final = "sound"
_MOST_ROWS = 40
"""Of a table on a terminal."""
_LEFT_TO_JSON = {"sources": ("sources", "studies", "positives", "lower_bound")}
_STYLES = {SOUND: "green", REMARK: "", SUSPECT: "yellow", UNUSABLE: "red"}


@dataclass(frozen=True, slots=True)
class Concern:
    """One thing that an audit found.

    Attributes
    ----------
    kind : str
        ``split``, ``duplicate_image``, ``duplicate_note``, ``label_words``, ``shortcut``, ``source``, ``support``,
        ``missingness``.
    grade : str
        `REMARK`, `SUSPECT` or `UNUSABLE`.
    text : str
        One sentence that names the figures; no patient, study or file in it.
    finding : str or None
        The finding it is about; None: the whole cohort.
    """

    kind: str
    grade: str
    text: str
    finding: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "grade": self.grade, "text": self.text, "finding": self.finding}


@dataclass(frozen=True, slots=True, eq=False)
class AuditReport:
    """What the audit of one cohort and task found.

    Attributes
    ----------
    concerns : tuple of Concern
        Gravest first.
    tables : dict of str to DataFrame
        ``shortcuts``, ``sources``, ``duplicates``, ``label_words``, ``support``, ``subgroups``, ``missingness``; no
        patient in them.
    false_alarm_rate : float
        Chance that a sound cohort is called suspect, over all of the audit's tests together.
    """

    concerns: tuple[Concern, ...]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    false_alarm_rate: float = 0.05

    @property
    def verdict(self) -> Verdict:
        """`UNUSABLE` or `SUSPECT` where a concern is as grave, else `SOUND`."""
        grades = {concern.grade for concern in self.concerns}
        return UNUSABLE if UNUSABLE in grades else SUSPECT if SUSPECT in grades else SOUND

    @property
    def summary(self) -> AuditVerdict:
        """What travels with a model."""
        return AuditVerdict(self.verdict, tuple(c.text for c in self.concerns if c.grade != REMARK))

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "false_alarm_rate": self.false_alarm_rate,
            "concerns": [concern.to_json() for concern in self.concerns],
            **{name: _records(table) for name, table in self.tables.items()},
        }

    def terminal_tables(self, displays: Mapping[str, str]) -> list[RenderableType]:
        """Every table, concerns and verdict, for a terminal; `displays` are the findings' names for readers."""
        shown: list[RenderableType] = []
        for name, table in self.tables.items():
            shown.append(frame_table(_title(name), _short(name, table), displays))
            if len(table) > _MOST_ROWS and name != "shortcuts":
                shown.append(f"and {len(table) - _MOST_ROWS} more rows; --json has all")
        shown += [Text(f"{concern.grade}: {concern.text}", style=_STYLES[concern.grade]) for concern in self.concerns]
        verdict = Text(f"audit: {self.verdict}", style=f"bold {_STYLES[self.verdict]}")
        verdict.append(f" (a sound cohort is called suspect with a chance of at most {share(self.false_alarm_rate)})")
        return [*shown, verdict]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of `table`; None in place of what JSON has no word for."""
    return [
        {str(name): None if isinstance(cell, float) and not math.isfinite(cell) else cell for name, cell in row.items()}
        for row in table.to_dict("records")
    ]


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize().replace("auroc", "AUROC")


def _short(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """What of a table fits on a terminal: of the probes, the AUROC of each group of facts for each finding."""
    if name == "shortcuts":
        wide = table.pivot_table(index="group", columns="finding", values="auroc", sort=False)
        return wide.reset_index().rename(columns={"group": "AUROC from"})
    return table.drop(columns=list(_LEFT_TO_JSON.get(name, ()))).head(_MOST_ROWS)
