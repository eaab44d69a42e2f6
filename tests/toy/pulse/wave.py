"""Pulse: one wave."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from consilium.domain.study import Record


@dataclass(frozen=True, slots=True)
class Pulse(Record):
    """A pulse wave of arbitrary unit, recorded at `time`."""

    samples: tuple[float, ...]
    time: datetime | None = None

    field: ClassVar[str] = "pulses"
    guessable: ClassVar[bool] = False

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr(self.samples).encode()).hexdigest()

    @property
    def description(self) -> str:
        return "pulse wave"
