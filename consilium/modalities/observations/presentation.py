"""Which observations are evidence: what they are, and how they are shown and sent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from consilium.domain.study import Study
from consilium.domain.variables import Variable
from consilium.domain.wire import Wire, WireValue
from consilium.formats.lab_notation import figure, measured
from consilium.modalities.presentation import Presentation

_FAINT = 0.25
"""Log-odds: where no value weighs this much, none is shown in full length."""


@dataclass(frozen=True, slots=True)
class Reference(WireValue):
    """A value beside its reference interval, both in the variable's own unit."""

    value: float
    low: float
    high: float
    unit: str
    log_scale: bool = False
    """Spread over decades: to be drawn by its logarithm."""


@dataclass(frozen=True, slots=True)
class ObservationWeight(WireValue):
    """How much evidence one observation is, in log-odds. `value` and `unit` are as the caller gave them."""

    variable: str
    """A built-in variable or one of the cohort's own, `age` or `sex`."""
    display: str
    value: str
    unit: str
    weight: float
    aspect: Literal["value", "age", "change"] = "value"
    """What of the variable was weighed: its last value, how old that is in hours, or its change per day."""
    reference: Reference | None = None
    """Null where the variable has no reference interval."""


Interval = tuple[float, float]


class CodeInformation(Wire):
    """A code under which a variable is accepted."""

    code: str
    system: str
    """`LOINC`, or `local` for a code of the cohort that the model learned from."""
    unit: str
    """UCUM unit of its values; others that convert are accepted. Empty for categories."""
    display: str


class VariableInformation(Wire):
    """A laboratory value, vital sign or other variable that the model reads."""

    name: str
    display: str
    kind: Literal["numeric", "categorical", "yes_no"]
    codes: tuple[CodeInformation, ...]
    unit: str
    """UCUM unit in which the value is kept and read; empty for categories."""
    categories: tuple[str, ...]
    """Accepted values, lowest first where they have an order."""
    ordered: bool
    normal_categories: tuple[str, ...]
    reference: Interval | None
    """Adult reference interval in `unit`, both sexes together."""
    reference_female: Interval | None
    """Where it differs."""
    reference_male: Interval | None
    """Where it differs."""
    plausible: tuple[float | None, float | None]
    """A living patient's value lies within; others are not read. Null: no limit."""

    @classmethod
    def of(cls, variable: Variable) -> VariableInformation:
        """What ``GET /v1/model`` says of `variable`."""
        low, high = variable.plausible_low, variable.plausible_high
        return cls(
            name=variable.name,
            display=variable.display,
            kind=variable.kind.value,
            codes=tuple(
                CodeInformation(code=c.code, system=c.system, unit=c.unit, display=c.long_name or variable.display)
                for c in variable.codes
            ),
            unit=variable.unit,
            categories=variable.categories,
            ordered=variable.ordered,
            normal_categories=variable.normal_categories,
            reference=variable.reference,
            reference_female=variable.female,
            reference_male=variable.male,
            plausible=(low if math.isfinite(low) else None, high if math.isfinite(high) else None),
        )


class ObservationsInformation(Wire):
    """Which laboratory values, vital signs and other variables the model reads."""

    variables: tuple[VariableInformation, ...]
    """Other codes are left out with a warning."""
    history: int
    """1: the last value of each variable; 2: also how old it is, and how it changed since the one before."""


def _cards(study: Study, findings: Sequence[tuple[ObservationWeight, ...]]) -> list[Mapping[str, Any] | None]:
    del study
    return [{"rows": _table(weights)} if weights else None for weights in findings]


def _table(weights: Sequence[ObservationWeight]) -> list[dict[str, Any]]:
    """The largest weight first."""
    strongest = max([abs(weight.weight) for weight in weights] + [_FAINT])
    return [
        {
            "weight": weight,
            "measured": measured(weight.value, weight.unit),
            "share": abs(weight.weight) / strongest,
            "scale": None if weight.reference is None else _scale(weight.reference, weight),
        }
        for weight in sorted(weights, key=lambda w: -abs(w.weight))
    ]


def _scale(reference: Reference, weight: ObservationWeight) -> dict[str, Any]:
    """Where the value lies beside its reference interval, as fractions of a bar that shows both with room around."""
    low, high, value = reference.low, reference.high, reference.value
    limit = weight.value[: len(weight.value) - len(weight.value.lstrip("<=>"))]
    points = np.array([low, high, value], float)
    if reference.log_scale:
        points = np.log(np.maximum(points, max(high * 1e-3, 1e-9)))
        points[0] = max(points[0], points[1] - np.log(100))
    first, last = points.min(), points.max()
    room = 0.15 * max(last - first, 1e-9)
    where = (points - first + room) / (last - first + 2 * room)
    return {
        "low": float(where[0]),
        "high": float(where[1]),
        "at": float(where[2]),
        "flag": reference_flag(value, low, high, limit) or "",
        "reference": measured(f"{low:g} to {high:g}", reference.unit),
        "converted": measured(f"{limit}{figure(value)}", reference.unit) if weight.unit != reference.unit else "",
    }


def reference_flag(value: float, low: float, high: float, limit: str) -> Literal["high", "low"] | None:
    """Where `value` lies beside its interval; of a `limit` (``<``, ``<=``, ``>=``, ``>``) where all values beyond do.

    None within the interval, and of a limit that leaves it open.
    """
    if "<" not in limit and (value > high or (limit == ">" and value == high)):
        return "high"
    if ">" not in limit and (value < low or (limit == "<" and value == low)):
        return "low"
    return None


def _rows(weights: Sequence[ObservationWeight]) -> list[tuple[str, float]]:
    return [(_measured(observation), observation.weight) for observation in weights]


def _measured(observation: ObservationWeight) -> str:
    value = f"{observation.display} {measured(observation.value, observation.unit)}"
    reference = observation.reference
    if reference is None:
        return value
    usual = f"{reference.low:g} to {reference.high:g}"
    return f"{value} ({usual if reference.unit == observation.unit else measured(usual, reference.unit)})"


PRESENTATION = Presentation(
    wire=ObservationWeight,
    information=ObservationsInformation,
    template="consilium.modalities.observations:explanation.html.j2",
    cards=_cards,
    unit="values",
    rows=_rows,
)
