"""Which earlier studies of a patient readers are shown beside a study."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Protocol, TypeVar

from hospital.store.received import PatientId
from hospital.studies.rules.code_strings import is_among

_DAY = timedelta(days=1)
_DAYS_OF_YEAR = 365.25


class Found(Protocol):
    """A study that a source has; what it does not say is None."""

    @property
    def study(self) -> str: ...
    @property
    def patient(self) -> PatientId | None: ...
    @property
    def time(self) -> datetime | None: ...
    @property
    def modalities(self) -> tuple[str, ...]: ...


_F = TypeVar("_F", bound=Found)


@dataclass(frozen=True, slots=True)
class PriorRules:
    """What a route asks for.

    Attributes
    ----------
    sources : tuple of str
        Names of the systems that are asked, the preferred first.
    most : int
        How many are shown.
    years : float
        How long before the study they may have been made.
    modalities, body_parts : frozenset of str
        Of the series that are shown; empty asks nothing.
    objects : int
        Most in the series that are shown of one prior.
    give_up : timedelta
        How long they are looked for.
    """

    sources: tuple[str, ...]
    most: int = 2
    years: float = 5.0
    modalities: frozenset[str] = frozenset()
    body_parts: frozenset[str] = frozenset()
    objects: int = 64
    give_up: timedelta = timedelta(minutes=30)

    def days(self, taken: datetime) -> tuple[date, date]:
        """The first and the last day that a source is asked for, of whatever time zone its dates are."""
        return (self._since(taken) - _DAY).date(), (taken + _DAY).date()

    def fits(self, modality: str | None, body_part: str | None) -> bool:
        """Whether a series, or an image of it, is shown."""
        return is_among(self.modalities, modality) and is_among(self.body_parts, body_part)

    def candidates(
        self, found: Iterable[tuple[str, _F]], study: str, taken: datetime, person: Collection[PatientId]
    ) -> list[tuple[str, _F]]:
        """What may be a prior of `study`, with the name of its source, the latest first.

        Parameters
        ----------
        found : iterable of (str, Found)
            By source, the preferred first: a study that several have is fetched from the first.
        taken : datetime
            When the study was made.
        person : collection of PatientId
            Every identifier of the patient, with its issuer: what names another one is no prior.
        """
        one_each: dict[str, tuple[str, _F]] = {}
        for source, other in found:
            if self._may_be(other, study, taken, person):
                one_each.setdefault(other.study, (source, other))
        return sorted(one_each.values(), key=lambda one: one[1].time or datetime.min.replace(tzinfo=UTC), reverse=True)

    def _may_be(self, other: Found, study: str, taken: datetime, person: Collection[PatientId]) -> bool:
        if other.study == study or other.patient not in person or other.time is None:
            return False
        # Of a source that does not say which modalities a study has, its series say so.
        told = not other.modalities or any(is_among(self.modalities, one) for one in other.modalities)
        return self._since(taken) <= other.time < taken and told

    def _since(self, taken: datetime) -> datetime:
        known = (taken - datetime.min.replace(tzinfo=UTC)).days - 2
        return taken - timedelta(days=min(self.years * _DAYS_OF_YEAR, max(known, 0)))
