"""What an audit ends in: tables, concerns and one verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from consilium.diagnosis import AuditVerdict

REMARK, SUSPECT, UNUSABLE = "remark", "suspect", "unusable"
"""How grave a concern is. A remark changes no verdict."""
SOUND = "sound"


@dataclass(frozen=True, slots=True)
class Concern:
    """One thing that an audit found.

    Attributes
    ----------
    kind : str
        ``split``, ``duplicate_image``, ``duplicate_note``, ``label_words``, ``shortcut``, ``support``, ``missingness``.
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
        ``shortcuts``, ``duplicates``, ``label_words``, ``support``, ``subgroups``, ``missingness``; no patient in them.
    false_alarm_rate : float
        Chance that a sound cohort is called suspect, over all of the audit's tests together.
    """

    concerns: tuple[Concern, ...]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    false_alarm_rate: float = 0.05

    @property
    def verdict(self) -> str:
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
            **{name: table.to_dict("records") for name, table in self.tables.items()},
        }
