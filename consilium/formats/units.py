"""Units: a value in any spelling of a unit becomes one in the variable's own unit.

`consilium.formats.unit_spellings` puts a spelling into UCUM, ucumvert parses UCUM, pint converts; the table knows molar
masses and charges. A conversion is linear, so it is worked out once per code and unit. The registry takes half a second
to build and is built at the first use.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from consilium.domain.errors import InputError
from consilium.domain.variables import Code, Variable
from consilium.formats.unit_spellings import readings, says_nothing

if TYPE_CHECKING:
    from pint import Quantity
    from ucumvert import PintUcumRegistry

_LONGEST_UNIT = 40
_ANNOTATION = re.compile(r"\{([^{}]*)\}")
_FACTORS_AND_POWERS = re.compile(r"10\*[+-]?\d{1,2}(?!\d)|(?<=[A-Za-z\]])[23](?!\d)")
_EQUIVALENTS = re.compile(r"[munpf]?eq(?=/)")
_PURE = {
    "LsCnc": ("[pH]", "1", "U"),
    "RelTime": ("1",),
    "Rden": ("1",),
    "Score": ("1",),
}
"""What the unit of a pure number may be, by property; 80 % sent as INR is a prothrombin time after Quick."""
_SAME = 1e-9
"""Two readings of a unit that differ by less are one."""


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
        substance concentration. Where all codes of the variable weigh the same molecule, either takes the units of the
        other, as laboratories send them; urea does not, which some weigh as urea and some as its nitrogen.
    unit : str
        UCUM, or a common spelling in any case, as long as it can mean one thing only for this code.

    Raises
    ------
    InputError
        With the field ``unit``: not understood, or of a dimension that the code does not have.
    """
    try:
        return _linear(code, variable.charge, variable.unit, unit, _weighs_one(variable))
    except _NoUnit:
        raise InputError("unit", unit, f"is not understood, must be {accepted_units(variable, code)}") from None
    except _WrongDimension:
        rule = f"must be {accepted_units(variable, code)}, for {code.system} {code.code}"
        raise InputError("unit", unit, rule) from None


def _weighs_one(variable: Variable) -> bool:
    """Whether all codes of `variable` weigh the same molecule, so that mass and substance mean the same."""
    return variable.molar_mass is not None and {code.molar_mass for code in variable.codes} == {variable.molar_mass}


def accepted_units(variable: Variable, code: Code) -> str:
    """What to send: an example unit of this code, and the variable's other codes with theirs."""
    others: dict[tuple[str, float | None], str] = {}
    for other in variable.codes:
        if (other.property, other.molar_mass) != (code.property, code.molar_mass):
            others.setdefault((other.property, other.molar_mass), f"{other.unit} as {other.system} {other.code}")
    example = code.unit or variable.unit
    return f"a unit that converts to {example}" + (f" ({' or '.join(others.values())})" if others else "")


class _NoUnit(Exception):
    """What was given is no unit, or may be one of several."""


class _WrongDimension(Exception):
    """What was given is a unit of something else."""


@lru_cache(maxsize=4096)
def _linear(code: Code, charge: int | None, target: str, given: str, either: bool) -> Conversion:
    if len(given) > _LONGEST_UNIT or (target == "%" and says_nothing(given)):
        # 0.8 without a unit may be a share as well as percent.
        raise _NoUnit
    target = target.replace("[IU]", "U").replace("[iU]", "U")
    found: list[Conversion] = []
    wrong = False
    for unit in readings(given) or (_strict(given),):
        if own := [Conversion(slope, intercept) for name, slope, intercept in code.equations if name == unit]:
            return own[0]
        try:
            converted = _of_reading(code, charge, target, unit, either)
        except _WrongDimension:
            wrong = True
            continue
        if not any(_alike(converted, other) for other in found):
            found.append(converted)
    if len(found) == 1:
        return found[0]
    raise _WrongDimension if wrong and not found else _NoUnit


def _strict(given: str) -> str:
    """`given` where it may be UCUM as it stands: its only numbers are powers of ten and exponents."""
    if re.search(r"\d", _FACTORS_AND_POWERS.sub("", _ANNOTATION.sub("", given))):
        raise _NoUnit
    return given.strip()


def _alike(one: Conversion, other: Conversion) -> bool:
    return math.isclose(one.scale, other.scale, rel_tol=_SAME) and math.isclose(one.offset, other.offset, abs_tol=_SAME)


def _of_reading(code: Code, charge: int | None, target: str, unit: str, either: bool) -> Conversion:
    _check_equivalents(code, unit)
    if code.property in _PURE:
        if unit not in _PURE[code.property]:
            raise _WrongDimension
        return Conversion(code.factor, 0.0)
    if _EQUIVALENTS.match(unit):
        if charge is None:
            raise _WrongDimension
        # UCUM's equivalent is a mole of charges.
        return _times(_of_reading(code, None, target, unit.replace("eq", "mol", 1), either), 1 / charge)
    zero, one = (_convert(code, target, unit, value, either) for value in (0.0, 1.0))
    if not (math.isfinite(zero) and math.isfinite(one)) or one == zero:
        raise _WrongDimension
    return Conversion((one - zero) * code.factor, zero * code.factor)


def _times(conversion: Conversion, factor: float) -> Conversion:
    return Conversion(conversion.scale * factor, conversion.offset * factor)


def _check_equivalents(code: Code, unit: str) -> None:
    """D-dimer units (DDU) and fibrinogen equivalent units (FEU) differ by two, and only the annotation tells."""
    for annotation in _ANNOTATION.findall(unit):
        if annotation in ("DDU", "FEU") and annotation not in code.unit:
            raise _WrongDimension


def _convert(code: Code, target: str, unit: str, value: float, either: bool) -> float:
    import pint

    quantity = _quantity(unit, value)
    try:
        mass, substance = quantity.check("[mass]/[volume]"), quantity.check("[substance]/[volume]")
        if code.property == "MCnc" and code.molar_mass and not (mass or (either and substance)):
            raise _WrongDimension
        if code.property == "SCnc" and not (substance or (either and mass)):
            raise _WrongDimension
        wanted = _quantity(target, 1.0)
        if code.molar_mass and mass and wanted.check("[substance]/[volume]"):
            quantity = quantity / _registry().Quantity(code.molar_mass, "gram/mole")
        elif code.molar_mass and substance and wanted.check("[mass]/[volume]"):
            quantity = quantity * _registry().Quantity(code.molar_mass, "gram/mole")
        return float(quantity.to(wanted.units).magnitude / wanted.magnitude)
    except (pint.PintError, ArithmeticError):
        raise _WrongDimension from None


def _quantity(unit: str, value: float) -> Quantity[float]:
    """`value` in the UCUM unit `unit`."""
    if not unit:
        raise _NoUnit
    parsed = _parsed(unit)
    return _registry().Quantity(value * parsed.magnitude, parsed.units)


@lru_cache(maxsize=1024)
def _parsed(unit: str) -> Quantity[float]:
    """One `unit`; parsing is the slow part."""
    registry = _registry()
    if unit == "1" or _ANNOTATION.fullmatch(unit):
        # UCUM: an annotation alone, {score}, is the unity.
        return registry.Quantity(1.0, "")
    try:
        return registry.from_ucum(unit)
    except Exception:  # the parser's and the registry's errors have no common base
        raise _NoUnit from None


@cache
def _registry() -> PintUcumRegistry:
    from ucumvert import PintUcumRegistry

    return PintUcumRegistry()
