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
from consilium.variables import LOINC, VARIABLES, LoincCode

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


@lru_cache(maxsize=4096)
def conversion(code: str, unit: str) -> Conversion:
    """How a value sent as `code` in `unit` becomes one in the variable's unit.

    Parameters
    ----------
    code : str
        An accepted LOINC code. Its property decides which units it takes: mg/dL for a mass concentration, mmol/L for a
        substance concentration.
    unit : str
        UCUM.

    Raises
    ------
    InputError
        With the field ``unit``: not UCUM, or of a dimension that the code does not have.
    """
    loinc = LOINC[code]
    given = unit.strip().replace("µ", "u").replace("μ", "u")
    given = _SPELLINGS.get(given, given)
    _check_annotation(loinc, unit, given)
    if loinc.property == "LsCnc":
        if given not in ("[pH]", "1", ""):
            raise _wrong_dimension(loinc, unit)
        return Conversion(loinc.factor, 0.0)
    zero, one = (_convert(loinc, unit, given, value) for value in (0.0, 1.0))
    if not (math.isfinite(zero) and math.isfinite(one)) or one == zero:
        raise _wrong_dimension(loinc, unit)
    return Conversion((one - zero) * loinc.factor, zero * loinc.factor)


def accepted_units(code: str) -> str:
    """What to send: an example unit of this code, and the variable's other codes with theirs."""
    loinc = LOINC[code]
    others: dict[tuple[str, float | None], str] = {}
    for other in VARIABLES[loinc.variable].codes:
        if (other.property, other.molar_mass) != (loinc.property, loinc.molar_mass):
            others.setdefault((other.property, other.molar_mass), f"{other.unit} as LOINC {other.code}")
    return f"a unit that converts to {loinc.unit}" + (f" ({' or '.join(others.values())})" if others else "")


def _wrong_dimension(loinc: LoincCode, unit: str) -> InputError:
    return InputError("unit", unit, f"must be {accepted_units(loinc.code)}, for LOINC {loinc.code}")


def _check_annotation(loinc: LoincCode, unit: str, given: str) -> None:
    """D-dimer units (DDU) and fibrinogen equivalent units (FEU) differ by two, and only the annotation tells."""
    for annotation in _ANNOTATION.findall(given.upper()):
        if annotation in ("DDU", "FEU") and annotation not in loinc.unit:
            raise _wrong_dimension(loinc, unit)


def _convert(loinc: LoincCode, unit: str, given: str, value: float) -> float:
    import pint

    target = VARIABLES[loinc.variable].unit
    quantity = _quantity(unit, given, value)
    try:
        if loinc.property == "MCnc" and loinc.molar_mass and not quantity.check("[mass]/[volume]"):
            raise _wrong_dimension(loinc, unit)
        if loinc.property == "SCnc" and not quantity.check("[substance]/[volume]"):
            raise _wrong_dimension(loinc, unit)
        wanted = _quantity(target, target, 1.0)
        if loinc.molar_mass and loinc.property == "MCnc" and wanted.check("[substance]/[volume]"):
            quantity = quantity / _registry().Quantity(loinc.molar_mass, "gram/mole")
        elif loinc.molar_mass and loinc.property == "SCnc" and wanted.check("[mass]/[volume]"):
            quantity = quantity * _registry().Quantity(loinc.molar_mass, "gram/mole")
        return float(quantity.to(wanted.units).magnitude / wanted.magnitude)
    except (pint.PintError, ArithmeticError):
        raise _wrong_dimension(loinc, unit) from None


def _quantity(unit: str, given: str, value: float) -> Quantity[float]:
    """`value` in the UCUM unit `given`; errors show `unit`, which was received."""
    if not given or len(given) > _LONGEST_UNIT or _LONG_NUMBER.search(_ANNOTATION.sub("", given)):
        raise InputError("unit", unit, "must be a UCUM unit such as mg/dL")
    registry = _registry()
    try:
        parsed = registry.from_ucum(given)
        return registry.Quantity(value * parsed.magnitude, parsed.units)
    except Exception:  # the parser's and the registry's errors have no common base
        raise InputError("unit", unit, "must be a UCUM unit such as mg/dL") from None


@cache
def _registry() -> PintUcumRegistry:
    from ucumvert import PintUcumRegistry

    return PintUcumRegistry()
