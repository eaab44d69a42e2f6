"""Targets beside the findings: ordered grades, and times to an event.

Both are answered in steps, each for those who have come to it: whether a study's grade is above this one, whether a
patient lives through the next interval without the event. What is passed up to a step is the product of its steps and
those before (ordered grades: CORN, Shi et al. 2021; times: discrete-time survival, Gensheimer and Narasimhan 2019).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

from consilium.domain.errors import InputError

_MOST_STEPS = 50


def _require_name(name: str) -> None:
    if not name.isidentifier() or name != name.lower():
        raise InputError("target.name", name, "must be a lower-case identifier such as severity")


def _require_few(field: str, steps: int) -> None:
    if steps > _MOST_STEPS:
        raise InputError(field, steps, f"must be at most {_MOST_STEPS}")


@dataclass(frozen=True, slots=True)
class OrdinalTarget:
    """Grades in their order, from the least: ``none``, ``mild``, ``severe``.

    Step k passes whoever's grade is above ``grades[k]``.
    """

    name: str
    display: str
    grades: tuple[str, ...]

    def __post_init__(self) -> None:
        _require_name(self.name)
        if len(self.grades) < 2 or len(set(self.grades)) < len(self.grades) or not all(map(str.strip, self.grades)):
            raise InputError(f"{self.name}.grades", list(self.grades), "must be two or more different names")
        _require_few(f"{self.name}.grades", len(self.grades))

    @property
    def steps(self) -> tuple[str, ...]:
        """What passing each step means."""
        return tuple(f"above {grade}" for grade in self.grades[:-1])

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "display": self.display, "grades": list(self.grades)}


@dataclass(frozen=True, slots=True)
class SurvivalTarget:
    """Time to an event, answered for at horizons, in `unit`.

    Step k passes whoever has no event up to ``horizons[k]``, of those without one up to the horizon before.
    """

    name: str
    display: str
    horizons: tuple[float, ...]
    unit: str = "days"

    def __post_init__(self) -> None:
        _require_name(self.name)
        rising = all(a < b for a, b in pairwise((0.0, *self.horizons)))
        if not self.horizons or not rising or not all(map(math.isfinite, self.horizons)):
            raise InputError(f"{self.name}.horizons", list(self.horizons), "must be one or more rising times above 0")
        _require_few(f"{self.name}.horizons", len(self.horizons))

    @property
    def steps(self) -> tuple[str, ...]:
        """What passing each step means."""
        return tuple(f"no event until {horizon:g} {self.unit}" for horizon in self.horizons)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "display": self.display, "horizons": list(self.horizons), "unit": self.unit}


Target: TypeAlias = OrdinalTarget | SurvivalTarget


def target_from_json(data: dict[str, Any]) -> Target:
    """The target that `to_json` described."""
    if "grades" in data:
        return OrdinalTarget(**data | {"grades": tuple(data["grades"])})
    return SurvivalTarget(**data | {"horizons": tuple(data["horizons"])})


def step_slices(targets: Sequence[Target]) -> list[slice]:
    """Which of all steps, one target's after the other's, are each target's."""
    ends = [0]
    for target in targets:
        ends.append(ends[-1] + len(target.steps))
    return [slice(start, end) for start, end in pairwise(ends)]


def step_owners(targets: Sequence[Target]) -> list[int]:
    """The position of each step's target."""
    return [position for position, target in enumerate(targets) for _ in target.steps]
