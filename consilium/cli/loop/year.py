"""What happens in the year, and when: known to the demo alone, not to what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

MONTHS = 12
_SCANNER = ("device",)
_PREVALENCE = ("prevalence:pneumonia=3", "prevalence:heart_failure=3", "prevalence:pleural_effusion=3")


@dataclass(frozen=True, slots=True)
class Year:
    """The numbers of one demonstration.

    Attributes
    ----------
    months : int
        How long it is watched.
    at_start, a_month : int
        Studies that the first model learns from, and that arrive in each month.
    size : int
        Rows and columns of the radiographs.
    scanner_month, prevalence_month : int
        In which another scanner comes, and from which on three findings have three times their odds.
    read_share, read_days : float
        Of the studies, which share is read, and after how many days on average.
    settings : tuple of str
        Changes of the recipe: ``training.epochs=1``.
    slow : float
        By how much the recorded times of the badly deployed candidate are multiplied.
    """

    months: int = MONTHS
    at_start: int = 900
    a_month: int = 150
    size: int = 64
    seed: int = 1
    scanner_month: int = 5
    prevalence_month: int = 8
    read_share: float = 0.7
    read_days: float = 14.0
    settings: tuple[str, ...] = ()
    slow: float = 10.0
    number: int = field(default_factory=lambda: datetime.now(UTC).year - 1)
    """The last whole calendar year: what is confirmed must not lie in the future."""

    @property
    def phases(self) -> Mapping[int, tuple[str, ...]]:
        """From which month on which shifts hold."""
        phases = {1: (), self.scanner_month: _SCANNER, self.prevalence_month: (*_SCANNER, *_PREVALENCE)}
        return MappingProxyType({begin: shifts for begin, shifts in phases.items() if begin <= self.months})

    def phase_of(self, month: int) -> int:
        """The month in which the phase of `month` began."""
        return max(begin for begin in self.phases if begin <= month)

    def scanner(self, month: int) -> str:
        """What makes the radiographs of `month`."""
        return "scanner B" if month >= self.scanner_month else "scanner A"

    def numbers(self, month: int) -> range:
        """Which studies arrive in `month`, 1 to 12; month 0 are those before the year."""
        if month == 0:
            return range(self.at_start)
        first = self.at_start + (month - 1) * self.a_month
        return range(first, first + self.a_month)

    def begin(self, month: int) -> datetime:
        """The first moment of `month`; 13 is the end of the year."""
        return datetime(self.number + (month - 1) // MONTHS, (month - 1) % MONTHS + 1, 1, tzinfo=UTC)

    def days(self, month: int) -> list[datetime]:
        """Each midnight of `month`."""
        count = (self.begin(month + 1) - self.begin(month)).days
        return [self.begin(month) + timedelta(days=day) for day in range(count)]
