"""Units: a value in a UCUM unit becomes one in the variable's own unit.

ucumvert parses UCUM, pint converts; the table knows the molar mass. A conversion is linear, so it is worked out once
per LOINC code and unit. The registry takes half a second to build and is built at the first use.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from consilium.errors import InputError
from consilium.variables import Code, Variable

if TYPE_CHECKING:
    from pint import Quantity
    from ucumvert import PintUcumRegistry

_LONGEST_UNIT = 32
_LONG_NUMBER = re.compile(r"\d{5,}")
_ANNOTATION = re.compile(r"\{([^{}]*)\}")

_SPELLINGS = {
    "mmHg": "mm[Hg]",
    "mm Hg": "mm[Hg]",
    "°C": "Cel",
    "degC": "Cel",
    "°F": "[degF]",
    "degF": "[degF]",
    "bpm": "/min",
    "mEq/L": "meq/L",
    "IU/L": "U/L",
    "[IU]/L": "U/L",
    "[iU]/L": "U/L",
}
"""Spellings that are not UCUM, or name the same quantity otherwise, are common, and can mean one thing only.

An international unit of an enzyme is one micromole per minute, as UCUM's U is; UCUM keeps them apart.
"""


@dataclass(frozen=True, slots=True)
class Conversion:
    """``given * scale + offset`` is the value in the variable's unit."""

    scale: float
    offset: float

    def __call__(self, value: float) -> float:
        return value * self.scale + self.offset


def conversion(variable: Variable, code: Code, unit: str) -> Conversion:
    """How a value of `variable` sent as `code` in `unit` becomes one in the variable's unit.

    Parameters
    ----------
    variable : Variable
    code : Code
        One of the variable's. Its property decides which units it takes: mg/dL for a mass concentration, mmol/L for a
        substance concentration.
    unit : str
        UCUM.

    Raises
    ------
    InputError
        With the field ``unit``: not UCUM, or of a dimension that the code does not have.
    """
    given = unit.strip().replace("µ", "u").replace("μ", "u")
    given = _SPELLINGS.get(given, given)
    try:
        return _linear(code, variable.unit, given)
    except _NoUnit:
        raise InputError("unit", unit, "must be a UCUM unit such as mg/dL") from None
    except _WrongDimension:
        rule = f"must be {accepted_units(variable, code)}, for {code.system} {code.code}"
        raise InputError("unit", unit, rule) from None


def accepted_units(variable: Variable, code: Code) -> str:
    """What to send: an example unit of this code, and the variable's other codes with theirs."""
    others: dict[tuple[str, float | None], str] = {}
    for other in variable.codes:
        if (other.property, other.molar_mass) != (code.property, code.molar_mass):
            others.setdefault((other.property, other.molar_mass), f"{other.unit} as {other.system} {other.code}")
    example = code.unit or variable.unit
    return f"a unit that converts to {example}" + (f" ({' or '.join(others.values())})" if others else "")


class _NoUnit(Exception):
    """What was given is no unit."""


class _WrongDimension(Exception):
    """What was given is a unit of something else."""


@lru_cache(maxsize=4096)
def _linear(code: Code, target: str, given: str) -> Conversion:
    _check_annotation(code, given)
    if code.property == "LsCnc":
        if given not in ("[pH]", "1", ""):
            raise _WrongDimension
        return Conversion(code.factor, 0.0)
    zero, one = (_convert(code, target, given, value) for value in (0.0, 1.0))
    if not (math.isfinite(zero) and math.isfinite(one)) or one == zero:
        raise _WrongDimension
    return Conversion((one - zero) * code.factor, zero * code.factor)


def _check_annotation(code: Code, given: str) -> None:
    """D-dimer units (DDU) and fibrinogen equivalent units (FEU) differ by two, and only the annotation tells."""
    for annotation in _ANNOTATION.findall(given.upper()):
        if annotation in ("DDU", "FEU") and annotation not in code.unit:
            raise _WrongDimension


def _convert(code: Code, target: str, given: str, value: float) -> float:
    import pint

    quantity = _quantity(given, value)
    try:
        if code.property == "MCnc" and code.molar_mass and not quantity.check("[mass]/[volume]"):
            raise _WrongDimension
        if code.property == "SCnc" and not quantity.check("[substance]/[volume]"):
            raise _WrongDimension
        wanted = _quantity(target, 1.0)
        if code.molar_mass and code.property == "MCnc" and wanted.check("[substance]/[volume]"):
            quantity = quantity / _registry().Quantity(code.molar_mass, "gram/mole")
        elif code.molar_mass and code.property == "SCnc" and wanted.check("[mass]/[volume]"):
            quantity = quantity * _registry().Quantity(code.molar_mass, "gram/mole")
        return float(quantity.to(wanted.units).magnitude / wanted.magnitude)
    except (pint.PintError, ArithmeticError):
        raise _WrongDimension from None


def _quantity(given: str, value: float) -> Quantity[float]:
    """`value` in the UCUM unit `given`."""
    if not given or len(given) > _LONGEST_UNIT or _LONG_NUMBER.search(_ANNOTATION.sub("", given)):
        raise _NoUnit
    registry = _registry()
    try:
        parsed = registry.from_ucum(given)
        return registry.Quantity(value * parsed.magnitude, parsed.units)
    except Exception:  # the parser's and the registry's errors have no common base
        raise _NoUnit from None


@cache
def _registry() -> PintUcumRegistry:
    from ucumvert import PintUcumRegistry

    return PintUcumRegistry()
