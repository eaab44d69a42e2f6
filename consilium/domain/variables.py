"""Variables: what can be measured or observed, in which unit it is kept, and which codes mean it.

`BUILT_IN` is the table that comes with the package: `variables.csv` has a row per variable, `loinc.csv` one per
accepted code. A cohort adds variables of its own with `VariableTable.extended_with`, and a model's artifact carries the
table that it was trained with: whoever reads records takes the table as an argument.

A unit alone cannot turn mg/dL into mmol/L: the molar mass stands here, and the property of the LOINC code (mass or
substance concentration) says when it is needed. Reference intervals are those commonly printed for adults. Laboratories
differ: they are shown beside a value and never decide anything. Plausible limits are wider than anything seen in a
living patient; a value outside is a slip of unit or decimal point. Troponin I and T, arterial and venous gases are
variables of their own. The pyruvate-to-lactate LDH is another quantity and has no code here; nor has 14937-7 (moles of
urea nitrogen), which laboratories fill with moles of urea or of nitrogen.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.resources import files
from types import MappingProxyType

from consilium.domain.errors import InputError
from consilium.domain.study import Sex

LOINC = "LOINC"
"""Code system of the built-in variables; a cohort may add codes of its own, whose system is ``local``."""

Interval = tuple[float, float]


class Kind(StrEnum):
    """What the values of a variable are."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    YES_NO = "yes_no"


@dataclass(frozen=True, slots=True)
class Code:
    """A code that is accepted for a variable.

    Attributes
    ----------
    code : str
        ``2160-0``.
    variable : str
        Key of the variable.
    property : str
        LOINC property: ``MCnc`` mass concentration, ``SCnc`` substance concentration, ``NCnc`` number concentration,
        ``CCnc`` catalytic concentration, ``MFr`` fraction, ``PPres`` and ``Pres`` pressure, ``NRat`` rate, ``Temp``,
        ``LsCnc`` logarithm of a substance concentration. Empty for a local code, which takes what converts.
    unit : str
        A UCUM unit of that property, as it is commonly sent: ``mg/dL``.
    molar_mass : float or None
        g/mol of what this code weighs, where the variable has one: 28.0 for urea nitrogen, 60.06 for urea.
    factor : float
        What the value is multiplied with beside the unit's own conversion: 2 from D-dimer units to fibrinogen
        equivalent units.
    long_name : str
        LOINC long common name.
    system : str
        ``LOINC`` or ``local``.
    equations : tuple of (str, float, float)
        Units whose values are no multiple of the variable's: unit, slope, intercept. HbA1c in mmol/mol (IFCC) is not a
        tenth of HbA1c in percent (NGSP).
    """

    code: str
    variable: str
    property: str = ""
    unit: str = ""
    molar_mass: float | None = None
    factor: float = 1.0
    long_name: str = ""
    system: str = LOINC
    equations: tuple[tuple[str, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Variable:
    """A laboratory value, vital sign, or whatever else a cohort measures.

    Attributes
    ----------
    name : str
        Key: ``crp``, ``heart_rate``.
    display : str
        What a reader sees.
    kind : Kind
    unit : str
        UCUM unit in which a numeric value is kept, shown and given to models.
    categories : tuple of str
        The values of a categorical variable, in their order where they have one: ``negative``, ``trace``, ``1+``. Of a
        yes-or-no variable ``no``, ``yes``.
    ordered : bool
        Whether the order of `categories` means anything; blood groups have none.
    normal_categories : tuple of str
        Those that a healthy adult has; empty where none is more normal than another.
    reference : (float, float) or None
        Adult reference interval in `unit`, both sexes together.
    female, male : (float, float) or None
        Reference interval by sex, where it differs.
    plausible_low, plausible_high : float
        A living patient's value lies within, in `unit`.
    may_be_zero : bool
        Whether 0 is plausible, too, though `plausible_low` is above it: none was found.
    slips_undetected : str
        Why not every slip by a factor of 1000 leaves the plausible limits; empty where every one does.
    log_scale : bool
        Spread over decades: models see its logarithm.
    molar_mass : float or None
        g/mol, where mass and substance concentrations are both in use. Haemoglobin as monomer, as laboratories count.
    charge : int or None
        Elementary charges per molecule, where equivalents are in use as well as moles: 2 for calcium.
    codes : tuple of Code
        Accepted codes; the first is the commonest.
    """

    name: str
    display: str
    kind: Kind = Kind.NUMERIC
    unit: str = ""
    categories: tuple[str, ...] = ()
    ordered: bool = False
    normal_categories: tuple[str, ...] = ()
    reference: Interval | None = None
    female: Interval | None = None
    male: Interval | None = None
    plausible_low: float = -math.inf
    plausible_high: float = math.inf
    may_be_zero: bool = False
    slips_undetected: str = ""
    log_scale: bool = False
    molar_mass: float | None = None
    charge: int | None = None
    codes: tuple[Code, ...] = ()

    def __post_init__(self) -> None:
        if (self.kind is Kind.NUMERIC) == bool(self.categories):
            rule = f"must be there for a {Kind.CATEGORICAL} or {Kind.YES_NO} variable, and for no other"
            raise InputError("categories", self.categories, rule)
        if len(set(self.categories)) != len(self.categories):
            raise InputError("categories", self.categories, "must differ from each other")
        if not set(self.normal_categories) <= set(self.categories):
            raise InputError("normal_categories", self.normal_categories, "must be among the categories")

    @property
    def code(self) -> str:
        """The commonest code; the name where there is none."""
        return self.codes[0].code if self.codes else self.name

    def normal_range(self, sex: Sex = Sex.UNKNOWN) -> Interval | None:
        """Adult reference interval in `unit`, of that sex where it is known and matters; None where there is none."""
        by_sex = {Sex.FEMALE: self.female, Sex.MALE: self.male}.get(sex)
        return by_sex or self.reference

    def is_plausible(self, value: float) -> bool:
        """Whether a living patient can have this value, in `unit`."""
        return self.plausible_low <= value <= self.plausible_high or (self.may_be_zero and value == 0)


@dataclass(frozen=True, slots=True)
class VariableTable(Mapping[str, Variable]):
    """Variables by name, in their order, which is the order of a model's observation tokens. It never changes.

    Raises
    ------
    InputError
        Where two variables share a name or a code.
    """

    variables: tuple[Variable, ...]
    _by_name: Mapping[str, Variable] = field(init=False, repr=False, compare=False)
    _by_code: Mapping[str, Code] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_name: dict[str, Variable] = {}
        by_code: dict[str, Code] = {}
        for variable in self.variables:
            if variable.name in by_name:
                raise InputError("variables.name", variable.name, "must name one variable only")
            by_name[variable.name] = variable
            for code in variable.codes:
                if code.code in by_code:
                    other = by_code[code.code].variable
                    raise InputError("variables.codes", code.code, f"must mean one variable only, and means {other}")
                by_code[code.code] = code
        object.__setattr__(self, "_by_name", by_name)
        object.__setattr__(self, "_by_code", by_code)

    def __getitem__(self, name: str) -> Variable:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self.variables)

    @property
    def codes(self) -> Mapping[str, Code]:
        """Every accepted code."""
        return MappingProxyType(self._by_code)

    def named(self, name: str) -> Variable:
        """The variable called `name`; `InputError` where there is none."""
        if name not in self._by_name:
            raise InputError("variable", name, f"must be one of {', '.join(self._by_name)}")
        return self._by_name[name]

    def by_code(self, code: str) -> Variable | None:
        """The variable that a code means, None where the code is not accepted."""
        found = self._by_code.get(code)
        return None if found is None else self._by_name[found.variable]

    def extended_with(self, more: Iterable[Variable]) -> VariableTable:
        """A table of these variables and `more` behind them; `InputError` where a name or code is taken."""
        return VariableTable((*self.variables, *more))


def _rows(name: str) -> list[dict[str, str]]:
    lines = files("consilium.domain").joinpath(name).read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def _number(cell: str) -> float | None:
    return float(cell) if cell else None


def _interval(low: str, high: str) -> Interval | None:
    return (float(low), float(high)) if low and high else None


def _names(cell: str) -> tuple[str, ...]:
    return tuple(cell.split("|")) if cell else ()


def _equations(cell: str) -> tuple[tuple[str, float, float], ...]:
    """``mmol/mol=0.09148:2.152``: unit, slope and intercept."""
    parts = [part.replace("=", ":").split(":") for part in _names(cell)]
    return tuple((unit, float(slope), float(intercept)) for unit, slope, intercept in parts)


def _read_codes(molar_masses: Mapping[str, float | None]) -> list[Code]:
    return [
        Code(
            row["code"],
            row["variable"],
            row["property"],
            row["unit"],
            _number(row["molar_mass"]) or molar_masses[row["variable"]],
            float(row["factor"] or 1),
            row["long_name"],
            equations=_equations(row["equations"]),
        )
        for row in _rows("loinc.csv")
    ]


def _read_variable(row: Mapping[str, str], codes: Iterable[Code]) -> Variable:
    return Variable(
        name=row["name"],
        display=row["display"],
        kind=Kind(row["kind"]),
        unit=row["unit"],
        categories=_names(row["categories"]),
        ordered=row["ordered"] == "1",
        normal_categories=_names(row["normal_categories"]),
        reference=_interval(row["low"], row["high"]),
        female=_interval(row["female_low"], row["female_high"]),
        male=_interval(row["male_low"], row["male_high"]),
        plausible_low=_limit(row["plausible_low"], -math.inf),
        plausible_high=_limit(row["plausible_high"], math.inf),
        may_be_zero=row["may_be_zero"] == "1",
        slips_undetected=row["slips_undetected"],
        log_scale=row["log_scale"] == "1",
        molar_mass=_number(row["molar_mass"]),
        charge=int(row["charge"]) if row["charge"] else None,
        codes=tuple(codes),
    )


def _limit(cell: str, none: float) -> float:
    return float(cell) if cell else none


def _read_built_in() -> VariableTable:
    rows = _rows("variables.csv")
    codes: dict[str, list[Code]] = {row["name"]: [] for row in rows}
    for code in _read_codes({row["name"]: _number(row["molar_mass"]) for row in rows}):
        codes[code.variable].append(code)
    return VariableTable(tuple(_read_variable(row, codes[row["name"]]) for row in rows))


BUILT_IN: VariableTable = _read_built_in()
"""The variables that come with the package."""
