"""Variables as JSON: how an artifact keeps those that its model knows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter

from consilium.domain.errors import ArtifactError
from consilium.domain.variables import BUILT_IN, Variable, VariableTable

_MEANING = ("kind", "unit", "categories", "ordered", "log_scale")
"""What of a built-in variable must be as it was when a model learned from it."""
_NO_LIMIT = {"plausible_low": -math.inf, "plausible_high": math.inf}
_VARIABLE = TypeAdapter(Variable)


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
        differing = difference(variable, BUILT_IN)
        if differing is not None:
            raise ArtifactError(f"variable {variable.name}: {differing} is another in this version")
    return BUILT_IN.extended_with(variable for variable in found if variable.name not in BUILT_IN)


def difference(variable: Variable, table: VariableTable) -> str | None:
    """In what a variable of this name in `table` means something else; None where it does not, or there is none."""
    other = table.get(variable.name)
    if other is None:
        return None
    return next((name for name in _MEANING if getattr(variable, name) != getattr(other, name)), None)


def _to_json(variable: Variable) -> dict[str, Any]:
    data: dict[str, Any] = _VARIABLE.dump_python(variable, mode="json")
    # JSON knows no infinity.
    return data | {name: data[name] if math.isfinite(data[name]) else None for name in _NO_LIMIT}


def _from_json(data: Mapping[str, Any]) -> Variable:
    return _VARIABLE.validate_python({**data, **{name: at for name, at in _NO_LIMIT.items() if data[name] is None}})
