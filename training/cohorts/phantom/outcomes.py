"""What becomes of phantom patients: a grade of severity and the time to death, both of the state alone.

So the best possible answer is known from every subset: that of each state, weighed by how likely the state is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from consilium.domain.targets import OrdinalTarget, SurvivalTarget, Target
from training.cohorts.phantom.tables import table

Floats = npt.NDArray[np.float64]
Columns = dict[str, object]

STREAM = "outcomes"


def phantom_targets() -> tuple[Target, ...]:
    """Severity and death."""
    severity, death = table("outcomes")["severity"], table("outcomes")["death"]
    horizons = tuple(float(horizon) for horizon in death["horizons"])
    return (
        OrdinalTarget("severity", "Severity", tuple(severity["grades"])),
        SurvivalTarget("death", "Death", horizons, death["unit"]),
    )


def best_passed(members: Sequence[str], present: npt.NDArray[np.bool_]) -> Floats:
    """Chance to pass every step of the targets in each state, float64 [S states, steps].

    Parameters
    ----------
    members : sequence of str
    present : bool [S, M]
        Whether each member is present in each state.
    """
    death = table("outcomes")["death"]
    above = expit(_log_odds_above(members, present))
    without = np.exp(-_rate(members, present)[:, None] * np.array(death["horizons"]))
    return np.concatenate([above, without], axis=1)


def _log_odds_above(members: Sequence[str], present: npt.NDArray[np.bool_]) -> Floats:
    severity = table("outcomes")["severity"]
    adds = np.array([severity["adds"].get(member, 0.0) for member in members])
    found: Floats = (present @ adds)[:, None] + np.array(severity["above"])
    return found


def _rate(members: Sequence[str], present: npt.NDArray[np.bool_]) -> Floats:
    """Events per day, [S]."""
    death = table("outcomes")["death"]
    ratios = np.array([death["ratios"].get(member, 1.0) for member in members])
    found: Floats = death["rate"] * np.where(present, ratios, 1.0).prod(axis=1)
    return found


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one study's patient, and what is known of it.

    Attributes
    ----------
    grade : str
    died, followed : float
        Days until death, and until nobody looks any longer.
    known : tuple of bool
        Of severity and of death.
    """

    grade: str
    died: float
    followed: float
    known: tuple[bool, bool]

    @property
    def columns(self) -> Columns:
        """Of ``studies.csv``."""
        graded, timed = self.known
        return {
            "ordinal:severity": self.grade if graded else "",
            "time:death": min(self.died, self.followed) if timed else "",
            "event:death": int(self.died <= self.followed) if timed else "",
        }

    @property
    def truth(self) -> Columns:
        """Of ``truth/states.csv``."""
        return {"severity": self.grade, "death": self.died}


def draw_fate(members: Sequence[str], present: Sequence[bool], rng: np.random.Generator) -> Fate:
    """What becomes of a patient in the state `present`."""
    tables: Mapping[str, Any] = table("outcomes")
    state = np.array([present])
    graded, lived, stayed, *unknown = rng.random(5)
    passed = int((graded < expit(_log_odds_above(members, state)[0])).sum())
    days = -np.log1p(-lived) / _rate(members, state)[0]
    least, most = tables["death"]["followed"]
    return Fate(
        grade=tables["severity"]["grades"][passed],
        died=_tenths(days),
        followed=_tenths(least + stayed * (most - least)),
        known=(unknown[0] >= tables["unknown"], unknown[1] >= tables["unknown"]),
    )


def _tenths(days: float) -> float:
    """In tenths of a day, one at least."""
    return max(0.1, round(float(days), 1))
