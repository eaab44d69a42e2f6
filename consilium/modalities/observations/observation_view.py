"""How the observations of a stored study are shown: as sent, converted, and beside their reference interval."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from consilium.domain.variables import Variable
from consilium.domain.wire import Wire
from consilium.formats.lab_notation import measured
from consilium.modalities.observations.observation import Observation
from consilium.modalities.observations.presentation import reference_flag
from consilium.modalities.presentation import RecordViewing, ViewContext


class ReferenceInterval(Wire):
    """Adult reference interval, of the patient's sex where that is known and matters."""

    low: float
    high: float


class ObservationView(Wire):
    """One laboratory value or vital sign of a stored study."""

    code: str
    display: str
    value: float | str
    """In `unit`; the name of a category."""
    comparator: Literal["<", "<=", ">=", ">"] | None
    """Where `value` is a limit."""
    unit: str
    """UCUM unit in which the variable is kept; empty for categories."""
    time: datetime | None
    as_sent: str
    """Value and unit as they were received."""
    reference_interval: ReferenceInterval | None
    flag: Literal["low", "normal", "high"] | None
    """Null without a reference interval, and of a limit that leaves it open."""
    used: bool
    """Plausible, and within the model's time window."""


def _views(observations: Sequence[Observation], context: ViewContext) -> list[ObservationView]:
    return [_view(one, context.variables[one.variable], context) for one in observations]


def _view(one: Observation, variable: Variable, context: ViewContext) -> ObservationView:
    interval = variable.normal_range(context.patient.sex)
    return ObservationView(
        code=one.code,
        display=variable.display,
        value=one.value if one.category is None else one.category,
        comparator=None if one.comparator is None else one.comparator.value,
        unit=variable.unit,
        time=one.time,
        as_sent=measured(one.given_text, one.given_unit),
        reference_interval=None if interval is None else ReferenceInterval(low=interval[0], high=interval[1]),
        flag=_flag(one, variable, interval),
        used=one.usable and one in context.used,
    )


def _flag(
    one: Observation, variable: Variable, interval: tuple[float, float] | None
) -> Literal["low", "normal", "high"] | None:
    if one.category is not None:
        known = variable.normal_categories
        return None if not known else "normal" if one.category in known else None
    if interval is None:
        return None
    beyond = reference_flag(one.value, *interval, one.comparator or "")
    return beyond or ("normal" if one.comparator is None else None)


VIEWING = RecordViewing(wire=ObservationView, view=_views)
