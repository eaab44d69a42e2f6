"""Observations: ``[{code, value, unit, time}]`` becomes Observations in the variables' own units."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
)

from consilium.domain.errors import InputError
from consilium.domain.variables import Code, Kind, Variable
from consilium.domain.wire import Wire
from consilium.formats.quantities import Comparator, read_category, read_quantity
from consilium.formats.sent_records import Moment, checked_records, number_or_text
from consilium.formats.times import read_time
from consilium.formats.units import conversion
from consilium.modalities.modality import ReadingContext
from consilium.modalities.observations.observation import Observation
from consilium.modalities.registry import default_context

_LOINC = re.compile(r"\d{1,7}-\d")
_LONGEST_COMMENT = 1000
"""Laboratories send comments in the place of a value or unit; these are left out, and the study stays."""


def _value(value: object) -> Any:
    return value if isinstance(value, bool) else number_or_text(value, _LONGEST_COMMENT)


Value = Annotated[float | int | str | bool, PlainValidator(_value, json_schema_input_type=float | str | bool)]
"""A number, text that is one, a limit, or a category; read by `read_quantity` and `read_category`."""


class ObservationRecord(Wire):
    """One laboratory value or vital sign."""

    code: Annotated[str, StringConstraints(min_length=1, max_length=64, strip_whitespace=True)] = Field(
        description="LOINC code, or a local one of the cohort that the model learned from; others are left out."
    )
    value: Value | None = Field(
        description="A number, text that is one as a whole, a limit such as `<0.3`, or a category such as `negative`; "
        "null of a result that is pending, which is left out.",
        examples=[112, "<0.3", "trace"],
    )
    comparator: Literal["<", "<=", ">=", ">"] | None = Field(
        default=None, description="FHIR's Quantity.comparator, where the value is a limit and does not say so itself."
    )
    unit: Annotated[
        str,
        StringConstraints(max_length=_LONGEST_COMMENT),
        BeforeValidator(lambda unit: "" if unit is None else unit, json_schema_input_type=str | None),
    ] = Field(
        default="", description="UCUM unit, or as laboratories write it: `K/uL`, `gm/dL`; empty where there is none."
    )
    time: Moment | None = None

    @model_serializer(mode="wrap")
    def _with_value(self, others: SerializerFunctionWrapHandler) -> dict[str, object]:
        """The client leaves out what is None; a pending result's value must be written."""
        return {"value": None} | others(self)


def read_observations(
    raw: Sequence[ObservationRecord | Mapping[str, object]],
    *,
    field: str = "observations",
    context: ReadingContext | None = None,
) -> tuple[tuple[Observation, ...], tuple[str, ...]]:
    """Read observations.

    Hospitals send every code they have, in the units and words of their devices: a code that is not in the table, a
    unit that is not understood, and text that is neither a number nor a limit nor a category are left out with a
    warning. A record of the wrong shape is an error. A value that no living patient has is kept, marked, and warned of.

    Parameters
    ----------
    raw : sequence of ObservationRecord or of mappings
        ``code`` (of the table: LOINC, or a cohort's own), ``value`` (a finite number, a limit such as ``<0.3``, or the
        name of a category), ``comparator`` (``<``, ``<=``, ``>=`` or ``>``, where the value is a limit without it),
        ``unit`` (UCUM, or as laboratories write it; optional where there is none), ``time`` (ISO 8601, optional).
    context : ReadingContext or None
        Whose variables are known, and where its times are from.

    Returns
    -------
    observations : tuple of Observation
        In the order given.
    warnings : tuple of str

    Raises
    ------
    InputError
        An unknown key, a code or unit that is no text, a value that is neither text nor a finite number, a comparator
        that contradicts the value, a malformed time.
    TooLarge
    """
    context = context or default_context()
    observations: list[Observation] = []
    warnings: list[str] = []
    for i, record in enumerate(checked_records(ObservationRecord, raw, field, context.limits["observations"])):
        observation, doubts = _read_observation(record, f"{field}[{i}]", context)
        warnings += doubts
        if observation is not None:
            observations.append(observation)
    return tuple(observations), tuple(warnings)


def _read_observation(
    record: ObservationRecord, field: str, context: ReadingContext
) -> tuple[Observation | None, list[str]]:
    """The observation, None where it is left out, and the warnings."""
    time, doubts = read_time(record.time, f"{field}.time", context.zone)
    variable = context.variables.by_code(record.code)
    if variable is None:
        shown = f"LOINC {record.code}" if _LOINC.fullmatch(record.code) else "its code"
        return None, [f"{field} left out: {shown} is not in the table of variables"]
    if record.value is None:
        return None, [f"{field} left out ({variable.display}): no value, the result may be pending"]
    try:
        if variable.kind is Kind.NUMERIC:
            observation, warnings = _number(variable, context.variables.codes[record.code], record, field)
        else:
            observation, warnings = _category(variable, record, field), []
    except InputError as error:
        if isinstance(record.value, str) or error.field == f"{field}.unit":
            # What was sent is not repeated: a warning may end in a log.
            return None, [f"{field} left out ({variable.display}): {error.field.rpartition('.')[2]} {error.rule}"]
        raise
    if observation.implausible:
        warnings.append(f"{field} not used: implausible value ({variable.display})")
    return replace(observation, time=time), [*warnings, *doubts]


def _number(variable: Variable, code: Code, record: ObservationRecord, field: str) -> tuple[Observation, list[str]]:
    quantity = read_quantity(record.value, record.comparator, field)
    try:
        kept = conversion(variable, code, record.unit)(quantity.value)
    except InputError as error:
        raise error.at(field) from None
    if not math.isfinite(kept):
        raise InputError(f"{field}.value", quantity.value, "must be finite in the variable's unit")
    observation = Observation(
        variable.name,
        code.code,
        kept,
        quantity.value,
        record.unit,
        implausible=not variable.is_plausible(kept) or _below_nothing(variable, kept, quantity.comparator),
        comparator=quantity.comparator,
    )
    return observation, list(quantity.warnings)


def _below_nothing(variable: Variable, value: float, comparator: Comparator | None) -> bool:
    """Whether a limit, ``<0``, leaves no value that a living patient can have."""
    return comparator is Comparator.BELOW and value <= 0 <= variable.plausible_low


def _category(variable: Variable, record: ObservationRecord, field: str) -> Observation:
    category = read_category(variable, record.value, field)
    position = float(variable.categories.index(category))
    return Observation(variable.name, record.code, position, position, record.unit, category=category)
