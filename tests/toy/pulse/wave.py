"""Pulse: one wave."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar, Self

from consilium.domain.study import Record


@dataclass(frozen=True, slots=True)
class Pulse(Record):
    """A pulse wave of arbitrary unit, recorded at `time`."""

    samples: tuple[float, ...]
    time: datetime | None = None

    field: ClassVar[str] = "pulses"
    guessable: ClassVar[bool] = False

    def with_time(self, time: datetime | None) -> Self:
        return replace(self, time=time)

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr(self.samples).encode()).hexdigest()

    @property
    def description(self) -> str:
        return "pulse wave"
