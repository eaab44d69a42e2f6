"""Observations: ``[{code, value, unit, time}]`` becomes Observations in the variables' own units."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from consilium.domain.errors import InputError
from consilium.domain.variables import BUILT_IN, Code, Kind, Variable, VariableTable
from consilium.formats.fields import check_list, check_object
from consilium.formats.limits import DEFAULT_LIMITS, Limits
from consilium.formats.quantities import Comparator, read_category, read_quantity
from consilium.formats.time_zone import TimeZone
from consilium.formats.times import read_time
from consilium.formats.units import conversion
from consilium.modalities.observations.observation import Observation

_LOINC = re.compile(r"\d{1,7}-\d")
_LONGEST_CODE = 64


def read_observations(
    raw: Sequence[Mapping[str, object]],
    *,
    variables: VariableTable = BUILT_IN,
    field: str = "observations",
    limits: Limits = DEFAULT_LIMITS,
    zone: TimeZone | None = None,
) -> tuple[tuple[Observation, ...], tuple[str, ...]]:
    """Read observations.

    Hospitals send every code they have, in the units and words of their devices: a code that is not in the table, a
    unit that is not understood, and text that is neither a number nor a limit nor a category are left out with a
    warning. A record of the wrong shape is an error. A value that no living patient has is kept, marked, and warned of.

    Parameters
    ----------
    raw : sequence of mappings
        ``code`` (of the table: LOINC, or a cohort's own), ``value`` (a finite number, a limit such as ``<0.3``, or the
        name of a category), ``comparator`` (``<``, ``<=``, ``>=`` or ``>``, where the value is a limit without it),
        ``unit`` (UCUM, or as laboratories write it; optional where there is none), ``time`` (ISO 8601, optional).
    variables : VariableTable
        Whose codes are known.
    zone : TimeZone or None
        As `read_time` takes it.

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
    observations: list[Observation] = []
    warnings: list[str] = []
    for i, entry in enumerate(check_list(raw, field, limits.observations)):
        observation, said = _read_observation(entry, f"{field}[{i}]", variables, zone)
        warnings += said
        if observation is not None:
            observations.append(observation)
    return tuple(observations), tuple(warnings)


def _read_observation(
    raw: object, field: str, variables: VariableTable, zone: TimeZone | None
) -> tuple[Observation | None, list[str]]:
    """The observation, None where it is left out, and the warnings."""
    entry = check_object(raw, field, ("code", "value", "comparator", "unit", "time"), required=("code",))
    if "value" not in entry:
        raise InputError(f"{field}.value", None, "must be given")
    code, unit, value = entry["code"], entry.get("unit"), entry["value"]
    if not isinstance(code, str) or not 0 < len(code.strip()) <= _LONGEST_CODE:
        raise InputError(f"{field}.code", code, "must be a code such as LOINC 1988-5")
    if unit is not None and not isinstance(unit, str):
        raise InputError(f"{field}.unit", type(unit).__name__, "must be a UCUM unit such as mg/dL")
    time, doubts = read_time(entry.get("time"), f"{field}.time", zone)
    variable = variables.by_code(code.strip())
    if variable is None:
        shown = f"LOINC {code.strip()}" if _LOINC.fullmatch(code.strip()) else "its code"
        return None, [f"{field} left out: {shown} is not in the table of variables"]
    if value is None:
        return None, [f"{field} left out ({variable.display}): no value, the result may be pending"]
    try:
        if variable.kind is Kind.NUMERIC:
            observation, warnings = _number(variable, variables.codes[code.strip()], entry, unit or "", field)
        else:
            observation, warnings = _category(variable, code.strip(), value, unit or "", field), []
    except InputError as error:
        if isinstance(value, str) or error.field == f"{field}.unit":
            # What was sent is not repeated: a warning may end in a log.
            return None, [f"{field} left out ({variable.display}): {error.field.rpartition('.')[2]} {error.rule}"]
        raise
    if observation.implausible:
        warnings.append(f"{field} not used: implausible value ({variable.display})")
    return replace(observation, time=time), [*warnings, *doubts]


def _number(
    variable: Variable, code: Code, entry: Mapping[str, object], unit: str, field: str
) -> tuple[Observation, list[str]]:
    quantity = read_quantity(entry["value"], entry.get("comparator"), field)
    try:
        kept = conversion(variable, code, unit)(quantity.value)
    except InputError as error:
        raise error.at(field) from None
    if not math.isfinite(kept):
        raise InputError(f"{field}.value", quantity.value, "must be finite in the variable's unit")
    observation = Observation(
        variable.name,
        code.code,
        kept,
        quantity.value,
        unit,
        implausible=not variable.is_plausible(kept) or _below_nothing(variable, kept, quantity.comparator),
        comparator=quantity.comparator,
    )
    return observation, list(quantity.warnings)


def _below_nothing(variable: Variable, value: float, comparator: Comparator | None) -> bool:
    """Whether a limit, ``<0``, leaves no value that a living patient can have."""
    return comparator is Comparator.BELOW and value <= 0 <= variable.plausible_low


def _category(variable: Variable, code: str, value: object, unit: str, field: str) -> Observation:
    category = read_category(variable, value, field)
    position = float(variable.categories.index(category))
    return Observation(variable.name, code, position, position, unit, category=category)
