"""Observations: ``[{code, value, unit, time}]`` becomes Observations in the variables' own units."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from consilium.errors import InputError
from consilium.ingest.fields import check_list, check_object, read_number
from consilium.ingest.limits import DEFAULT_LIMITS, Limits
from consilium.ingest.time_zone import TimeZone
from consilium.ingest.times import read_time
from consilium.ingest.units import conversion
from consilium.study import Observation
from consilium.variables import BUILT_IN, VariableTable

_LOINC = re.compile(r"\d{1,7}-\d")


def read_observations(
    raw: Sequence[Mapping[str, object]],
    *,
    variables: VariableTable = BUILT_IN,
    field: str = "observations",
    limits: Limits = DEFAULT_LIMITS,
    zone: TimeZone | None = None,
) -> tuple[tuple[Observation, ...], tuple[str, ...]]:
    """Read observations.

    A LOINC code that is not in the table is left out with a warning, because hospitals send every code they have;
    everything else that is wrong is an error. A value that no living patient has is kept, marked, and warned of.

    Parameters
    ----------
    raw : sequence of mappings
        ``code`` (LOINC), ``value`` (a finite number, or text that is one), ``unit`` (UCUM), ``time`` (ISO
        8601, optional).
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
        An unknown key, a malformed code, a value that is no finite number, a unit that is not UCUM or of the wrong
        dimension, a malformed time.
    TooLarge
    """
    observations: list[Observation] = []
    warnings: list[str] = []
    for i, entry in enumerate(check_list(raw, field, limits.observations)):
        observation, told = _read_observation(entry, f"{field}[{i}]", variables, zone)
        if isinstance(observation, str):
            warnings.append(f"{field}[{i}] left out: LOINC {observation} is not in the table of variables")
            continue
        observations.append(observation)
        warnings += told
        if observation.implausible:
            warnings.append(f"{field}[{i}] not used: implausible value ({variables[observation.variable].display})")
    return tuple(observations), tuple(warnings)


def _read_observation(
    raw: object, field: str, variables: VariableTable, zone: TimeZone | None
) -> tuple[Observation | str, tuple[str, ...]]:
    """The observation, or its code where that is not known; and what is told of how its value and time were written."""
    entry = check_object(raw, field, ("code", "value", "unit", "time"), required=("code", "value", "unit"))
    code, unit = entry["code"], entry["unit"]
    if not isinstance(code, str) or not _LOINC.fullmatch(code):
        raise InputError(f"{field}.code", code, "must be a LOINC code such as 1988-5")
    value, warnings = read_number(entry["value"], f"{field}.value")
    if not isinstance(unit, str):
        raise InputError(f"{field}.unit", type(unit).__name__, "must be a UCUM unit such as mg/dL")
    time, doubts = read_time(entry.get("time"), f"{field}.time", zone)
    variable = variables.by_code(code)
    if variable is None:
        return code, ()
    try:
        kept = conversion(variable, variables.codes[code], unit)(value)
    except InputError as error:
        raise error.at(field) from None
    if not math.isfinite(kept):
        raise InputError(f"{field}.value", value, "must be finite in the variable's unit")
    implausible = not variable.is_plausible(kept)
    return Observation(variable.name, code, kept, value, unit, time, implausible), (*warnings, *doubts)
