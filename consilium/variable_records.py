"""Variables as JSON: how an artifact keeps those that its model knows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from consilium.errors import ArtifactError
from consilium.variables import BUILT_IN, Code, Kind, Variable, VariableTable

_MEANING = ("kind", "unit", "categories", "ordered", "log_scale")
"""What of a built-in variable must be as it was when a model learned from it."""
_INTERVALS = ("reference", "female", "male")
_LISTS = ("categories", "normal_categories")


def own_variables(table: VariableTable) -> tuple[Variable, ...]:
    """Those of `table` that do not come with the package."""
    return tuple(variable for variable in table.values() if variable.name not in BUILT_IN)


def variables_to_json(table: VariableTable, read: Iterable[str] = ()) -> list[dict[str, Any]]:
    """The variables that a cohort brought, and those of the built-in ones that a model reads."""
    wanted = set(read) | {variable.name for variable in own_variables(table)}
    return [_to_json(variable) for variable in table.values() if variable.name in wanted]


def variables_from_json(data: Iterable[Mapping[str, Any]]) -> VariableTable:
    """The built-in table, extended with the cohort's variables of `data`.

    Raises
    ------
    ArtifactError
        Where a built-in variable means something else in this version.
    InputError
        Where a variable breaks a rule.
    """
    found = [_from_json(entry) for entry in data]
    for variable in found:
        known = BUILT_IN.get(variable.name)
        if known is None:
            continue
        for attribute in _MEANING:
            before, now = getattr(variable, attribute), getattr(known, attribute)
            if before != now:
                raise ArtifactError(f"variable {variable.name}: {attribute} was {before}, and is {now} in this version")
    return BUILT_IN.extended_with(variable for variable in found if variable.name not in BUILT_IN)


def _to_json(variable: Variable) -> dict[str, Any]:
    data = asdict(variable)
    for limit in ("plausible_low", "plausible_high"):
        data[limit] = data[limit] if math.isfinite(data[limit]) else None
    return data


def _from_json(data: Mapping[str, Any]) -> Variable:
    given = dict(data)
    low, high = given.pop("plausible_low"), given.pop("plausible_high")
    given |= {name: None if given[name] is None else tuple(given[name]) for name in _INTERVALS}
    given |= {name: tuple(given[name]) for name in _LISTS}
    return Variable(
        **{**given, "kind": Kind(given["kind"]), "codes": tuple(_code(code) for code in given["codes"])},
        plausible_low=-math.inf if low is None else low,
        plausible_high=math.inf if high is None else high,
    )


def _code(data: Mapping[str, Any]) -> Code:
    return Code(**{**data, "equations": tuple((unit, *line) for unit, *line in data["equations"])})
