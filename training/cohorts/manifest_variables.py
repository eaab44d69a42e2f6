"""A cohort's own variables, which ``cohort.yaml`` declares.

Declared are, each a mapping of ``variables``:

- ``name`` (lower case letters, digits, ``_``) and ``display``;
- ``kind``: ``numeric`` (the default), ``categorical`` or ``yes_no``;
- of a numeric variable ``unit`` (UCUM, ``1`` for a pure number), ``reference`` (``[low, high]``, or these under
  ``female`` and ``male``), ``plausible`` (``[low, high]`` of a living patient) and ``scale``, ``linear`` or ``log``;
- of a categorical one ``categories``, ``ordered`` (true where they are listed from lowest to highest) and ``normal``,
  those of a healthy adult;
- ``codes``: LOINC or local ones under which it is sent. Its name is always one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from consilium.domain.errors import InputError, Problem
from consilium.domain.study import Patient
from consilium.domain.variables import BUILT_IN, LOINC, Code, Interval, Kind, Variable, VariableTable
from consilium.formats.quantities import read_category
from consilium.formats.units import conversion

LOCAL = "local"
YES_NO = ("no", "yes")

_OF_PATIENT = tuple(field.name for field in fields(Patient))
_LOINC_CODE = re.compile(r"\d{1,7}-\d")
_LOCAL_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")
_NUMERIC_ONLY = ("unit", "reference", "plausible", "scale")
_CATEGORICAL_ONLY = ("categories", "ordered", "normal")

Bounds = Annotated[list[float], Field(min_length=2, max_length=2)]


class SexBounds(BaseModel):
    """Reference intervals by sex."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    female: Bounds
    male: Bounds


class VariableEntry(BaseModel):
    """A variable as ``cohort.yaml`` declares it; None: not given."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    display: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    kind: Literal["numeric", "categorical", "yes_no"] = "numeric"
    unit: Annotated[str, Field(min_length=1)] | None = None
    categories: Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Field(min_length=2)] | None = None
    ordered: bool | None = None
    normal: list[str] | None = None
    reference: Bounds | SexBounds | None = None
    plausible: Bounds | None = None
    scale: Literal["linear", "log"] | None = None
    codes: list[str] = []

    def variable(self) -> Variable:
        """The variable that this declares.

        Raises
        ------
        InputError
            Names the key, the value and the rule.
        """
        kind = Kind(self.kind)
        self._check_keys(kind)
        by_sex = self.reference if isinstance(self.reference, SexBounds) else None
        female, male = (None, None) if by_sex is None else (_interval(by_sex.female), _interval(by_sex.male))
        both = _interval(self.reference) if isinstance(self.reference, list) else None
        if female is not None and male is not None:
            both = (min(female[0], male[0]), max(female[1], male[1]))
        # A logarithm knows nothing below 0.
        widest = (0.0 if self.scale == "log" else -math.inf, math.inf)
        limits = widest if self.plausible is None else _interval(self.plausible, "plausible")
        variable = Variable(
            name=self.name,
            display=self.display or self.name.replace("_", " ").capitalize(),
            kind=kind,
            unit=self.unit or "",
            categories=YES_NO if kind is Kind.YES_NO else tuple(self.categories or ()),
            ordered=bool(self.ordered),
            normal_categories=tuple(self.normal or ()),
            reference=both,
            female=female,
            male=male,
            log_scale=self.scale == "log",
            codes=tuple(self._codes()),
            plausible_low=limits[0],
            plausible_high=limits[1],
        )
        _check_numbers(variable)
        _check_categories(variable)
        return variable

    def _check_keys(self, kind: Kind) -> None:
        if self.name in _OF_PATIENT:
            raise InputError("name", self.name, "must not be that of the patient's age or sex")
        others = {
            Kind.NUMERIC: _CATEGORICAL_ONLY,
            Kind.CATEGORICAL: _NUMERIC_ONLY,
            Kind.YES_NO: (*_NUMERIC_ONLY, "categories", "ordered"),
        }[kind]
        for key in others:
            if getattr(self, key) is not None:
                raise InputError(key, getattr(self, key), f"must not be there for a variable of kind {kind}")
        needed = {Kind.NUMERIC: "unit", Kind.CATEGORICAL: "categories"}.get(kind)
        if needed is not None and getattr(self, needed) is None:
            rules = {"unit": "must be there: a UCUM unit, or 1 for a pure number", "categories": "must be there"}
            raise InputError(needed, None, rules[needed])

    def _codes(self) -> Iterator[Code]:
        for code in dict.fromkeys((*self.codes, self.name)):
            if not _LOINC_CODE.fullmatch(code) and not _LOCAL_CODE.fullmatch(code):
                raise InputError("codes", code, "must be a LOINC code, or letters, digits and any of . _ : / -")
            yield Code(code, self.name, unit=self.unit or "", system=LOINC if _LOINC_CODE.fullmatch(code) else LOCAL)


def own_table(
    entries: Sequence[VariableEntry], table: str, lines: Sequence[int]
) -> tuple[VariableTable, list[Problem]]:
    """The built-in variables and those of `entries`, which begin at `lines` of the file `table`; the problems."""
    variables, problems = BUILT_IN, []
    for number, entry in enumerate(entries):
        try:
            variables = variables.extended_with([entry.variable()])
        except InputError as error:
            key = error.field.removeprefix("variables.").removesuffix("_categories")
            line = lines[number] if number < len(lines) else None
            problems.append(Problem(table, line, f"variables.{number}.{key}", error.value, error.rule))
    return variables, problems


def variable_lines(text: str) -> list[int]:
    """The line at which each entry of ``variables`` begins, in a YAML file's `text` that could be read."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return []
    lists = [value for key, value in root.value if key.value == "variables" and isinstance(value, yaml.SequenceNode)]
    return [entry.start_mark.line + 1 for one in lists for entry in one.value]


def repeated_keys(text: str) -> list[tuple[str, int]]:
    """Keys that a mapping of a YAML file's `text` has more than once, each with the line where it stands again."""
    found, waiting, done = [], [yaml.compose(text, Loader=yaml.SafeLoader)], set()
    while waiting:
        node = waiting.pop()
        if id(node) in done:  # an alias
            continue
        done.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if str(key.value) in seen:
                    found.append((str(key.value), key.start_mark.line + 1))
                seen.add(str(key.value))
                waiting.append(value)
    return found


def _interval(bounds: list[float], key: str = "reference") -> Interval:
    low, high = bounds
    if not low < high:
        raise InputError(key, bounds, "must be [low, high] with low below high")
    return low, high


def _check_categories(variable: Variable) -> None:
    """Each can be shown, and is found again by its own spelling."""
    for key, text in (("display", variable.display), *(("categories", category) for category in variable.categories)):
        if not text.isprintable():
            raise InputError(key, text, "must be without line breaks and control characters")
    for category in variable.categories:
        if read_category(variable, category, "categories") != category:
            raise InputError("categories", category, "must differ from the others in more than case and blanks")


def _check_numbers(variable: Variable) -> None:
    """Unit and intervals of a numeric variable, each beside the others."""
    if variable.kind is not Kind.NUMERIC:
        return
    try:
        conversion(variable, variable.codes[-1], variable.unit)
    except InputError:
        raise InputError("unit", variable.unit, "must be a UCUM unit such as mg/L, or 1 for a pure number") from None
    for bounds in (variable.reference, variable.female, variable.male):
        if bounds is not None and not (variable.is_plausible(bounds[0]) and variable.is_plausible(bounds[1])):
            raise InputError("reference", list(bounds), "must lie within the plausible limits")
    lowest = variable.plausible_low if math.isfinite(variable.plausible_low) else (variable.reference or (0.0,))[0]
    if variable.log_scale and lowest < 0:
        raise InputError("scale", "log", "must be linear where values may lie below 0")
