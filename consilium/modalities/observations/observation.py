"""Observation: one laboratory value or vital sign."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Self

from consilium.domain.study import Record, instant_text
from consilium.formats.quantities import Comparator


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

    @property
    def usable(self) -> bool:
        return not self.implausible

    @property
    def remarks(self) -> tuple[str, ...]:
        return ("implausible values, not read",) if self.implausible else ()

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
