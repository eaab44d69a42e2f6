"""Variables: what can be observed, in which unit it is kept, and which LOINC codes mean it.

`variables.csv` has a row per variable, `loinc.csv` one per accepted code. A unit alone cannot turn mg/dL into mmol/L:
the molar mass stands here, and the property of the LOINC code (mass or substance concentration) says when it is needed.

Reference intervals are those commonly printed for adults. Laboratories differ: they are shown beside a value and never
decide anything. Plausible intervals are wider than anything seen in a living patient; a value outside is a slip of unit
or decimal point. Troponin I, venous gases, and the pyruvate-to-lactate LDH are other quantities and have no code here;
nor has 14937-7 (moles of urea nitrogen), which laboratories fill with moles of urea or of nitrogen.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType

from consilium.errors import InputError
from consilium.study import Sex


@dataclass(frozen=True, slots=True)
class LoincCode:
    """A LOINC code that is accepted for a variable.

    Attributes
    ----------
    code : str
        ``2160-0``.
    variable : str
        Key of the variable.
    property : str
        LOINC property: ``MCnc`` mass concentration, ``SCnc`` substance concentration, ``NCnc`` number concentration,
        ``CCnc`` catalytic concentration, ``MFr`` fraction, ``PPres`` and ``Pres`` pressure, ``NRat`` rate, ``Temp``,
        ``LsCnc`` logarithm of a substance concentration.
    unit : str
        A UCUM unit of that property, as it is commonly sent: ``mg/dL``.
    molar_mass : float or None
        g/mol of what this code weighs, where the variable has one: 28.0 for urea nitrogen, 60.06 for urea.
    factor : float
        What the value is multiplied with beside the unit's own conversion: 2 from D-dimer units to fibrinogen
        equivalent units.
    long_name : str
        LOINC long common name.
    """

    code: str
    variable: str
    property: str
    unit: str
    molar_mass: float | None
    factor: float
    long_name: str


@dataclass(frozen=True, slots=True)
class Variable:
    """A laboratory value or vital sign.

    Attributes
    ----------
    name : str
        Key: ``crp``, ``heart_rate``.
    display : str
        What a reader sees.
    unit : str
        UCUM unit in which the value is kept, shown and given to models.
    molar_mass : float or None
        g/mol, where mass and substance concentrations are both in use. Haemoglobin as monomer, as laboratories count.
    normal_low, normal_high : float
        Adult reference interval in `unit`, both sexes together.
    female, male : (float, float) or None
        Reference interval by sex, where it differs.
    plausible_low, plausible_high : float
        A living patient's value lies within, in `unit`.
    log_scale : bool
        Spread over decades: models see its logarithm.
    codes : tuple of LoincCode
        Accepted codes; the first is the commonest.
    """

    name: str
    display: str
    unit: str
    molar_mass: float | None
    normal_low: float
    normal_high: float
    female: tuple[float, float] | None
    male: tuple[float, float] | None
    plausible_low: float
    plausible_high: float
    log_scale: bool
    codes: tuple[LoincCode, ...]

    @property
    def code(self) -> str:
        """The commonest LOINC code."""
        return self.codes[0].code

    def normal_range(self, sex: Sex = Sex.UNKNOWN) -> tuple[float, float]:
        """Adult reference interval in `unit`, of that sex where it is known and matters."""
        by_sex = {Sex.FEMALE: self.female, Sex.MALE: self.male}.get(sex)
        return by_sex or (self.normal_low, self.normal_high)

    def is_plausible(self, value: float) -> bool:
        """Whether a living patient can have this value, in `unit`."""
        return self.plausible_low <= value <= self.plausible_high


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(files("consilium").joinpath(name).read_text(encoding="utf-8").splitlines()))


def _number(cell: str) -> float | None:
    return float(cell) if cell else None


def _interval(low: str, high: str) -> tuple[float, float] | None:
    return (float(low), float(high)) if low and high else None


def _read_codes(molar_masses: Mapping[str, float | None]) -> dict[str, LoincCode]:
    codes = {}
    for row in _rows("loinc.csv"):
        molar_mass = _number(row["molar_mass"]) or molar_masses[row["variable"]]
        codes[row["code"]] = LoincCode(
            row["code"],
            row["variable"],
            row["property"],
            row["unit"],
            molar_mass,
            float(row["factor"]),
            row["long_name"],
        )
    return codes


def _read_variables(rows: list[dict[str, str]], codes: Mapping[str, LoincCode]) -> dict[str, Variable]:
    return {
        row["name"]: Variable(
            name=row["name"],
            display=row["display"],
            unit=row["unit"],
            molar_mass=_number(row["molar_mass"]),
            normal_low=float(row["low"]),
            normal_high=float(row["high"]),
            female=_interval(row["female_low"], row["female_high"]),
            male=_interval(row["male_low"], row["male_high"]),
            plausible_low=float(row["plausible_low"]),
            plausible_high=float(row["plausible_high"]),
            log_scale=row["log_scale"] == "1",
            codes=tuple(code for code in codes.values() if code.variable == row["name"]),
        )
        for row in rows
    }


_TABLE = _rows("variables.csv")

LOINC: Mapping[str, LoincCode] = MappingProxyType(
    _read_codes({row["name"]: _number(row["molar_mass"]) for row in _TABLE})
)
"""Every accepted LOINC code."""

VARIABLES: Mapping[str, Variable] = MappingProxyType(_read_variables(_TABLE, LOINC))
"""Every variable by its key, in the order of the table, which is the order of a model's observation tokens."""


def variable(name: str) -> Variable:
    """The variable called `name`; `InputError` where there is none."""
    if name not in VARIABLES:
        raise InputError("variable", name, f"must be one of {', '.join(VARIABLES)}")
    return VARIABLES[name]


def by_loinc(code: str) -> Variable | None:
    """The variable that a LOINC code means, None where the code is not accepted."""
    return VARIABLES[LOINC[code].variable] if code in LOINC else None
