"""Observation: one laboratory value or vital sign."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Self

from consilium.domain.study import Record, instant_text, iso_text
from consilium.formats.quantities import Comparator

_ANNOTATION = re.compile(r"\{[^{}]*\}")
"""Of a UCUM unit: free text, in which anybody's name may stand."""
_UNIT = re.compile(r"[\w%/.*^\[\]()+·×' -]{1,20}")


@dataclass(frozen=True, slots=True)
class Observation(Record):
    """One laboratory value or vital sign, in the unit the variable table is kept in.

    Attributes
    ----------
    variable : str
        Name in a `consilium.domain.variables.VariableTable`: ``crp``, ``heart_rate``.
    code : str
        Code as received.
    value : float
        In the variable's own unit; of a category its position among the variable's categories, from 0 on.
    given_value, given_unit : float, str
        What was received (UCUM), a number without its comparator; of a category its position again.
    implausible : bool
        Outside the range in which a living patient's value can lie; never shown to a model.
    comparator : Comparator or None
        Where `value` is a limit: the true value is below or above it.
    category : str or None
        One of the variable's categories.
    """

    variable: str
    code: str
    value: float
    given_value: float
    given_unit: str
    time: datetime | None = None
    implausible: bool = False
    comparator: Comparator | None = None
    category: str | None = None

    field: ClassVar[str] = "observations"

    @property
    def given_text(self) -> str:
        """What was received, without its unit: ``112``, ``<0.3``, ``trace``."""
        return self.category or f"{self.comparator or ''}{self.given_value:.12g}"

    def sent(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "value": self.category or self.given_value,
            "comparator": self.comparator,
            "unit": self.given_unit,
            "time": iso_text(self.time),
        }

    @property
    def usable(self) -> bool:
        return not self.implausible

    @property
    def remarks(self) -> tuple[str, ...]:
        return ("implausible values, not read",) if self.implausible else ()

    @property
    def categories(self) -> Mapping[str, str]:
        """The unit as it was written, ``none`` without one; of a category nothing."""
        if self.category is not None:
            return {}
        unit = _ANNOTATION.sub("", self.given_unit).strip() or "none"
        return {f"unit:{self.variable}": unit if _UNIT.fullmatch(unit) else "other"}

    @property
    def description(self) -> str:
        return f"observation ({self.variable})"

    @property
    def digest(self) -> str:
        """SHA-256 of code, value, unit and time as received, in hex."""
        return self.digests([self])[self.field]

    @classmethod
    def digests(cls, records: Sequence[Self]) -> dict[str, str]:
        """One digest of all: ``observations`` → hex."""
        lines = [
            f"{o.code} {o.comparator or ''}{o.category or repr(o.given_value)} {o.given_unit} {instant_text(o.time)}"
            for o in records
        ]
        return {cls.field: hashlib.sha256("\n".join(lines).encode()).hexdigest()}
