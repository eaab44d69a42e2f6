"""Which route a study takes, and which of its images: the first whose conditions an image meets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from hospital.store.received import ReceivedInstance
from hospital.studies.rules.code_strings import is_among
from hospital.studies.rules.completeness import CompletenessRules
from hospital.studies.rules.prior_rules import PriorRules

Priority = Literal["stat", "routine"]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What an image must say of itself; an empty set asks nothing.

    Words are compared as DICOM's code strings are: without regard to case, underscores and blanks around them.
    Procedures are codes of the procedure as performed or requested, with their scheme (``SCT:399208008``) or without.
    `ages` are years, from the first of two to below the second.
    """

    sources: frozenset[str] = frozenset()
    modalities: frozenset[str] = frozenset()
    body_parts: frozenset[str] = frozenset()
    views: frozenset[str] = frozenset()
    stations: frozenset[str] = frozenset()
    procedures: frozenset[str] = frozenset()
    ages: tuple[float, float] | None = None
    priorities: frozenset[str] = frozenset()

    def met_by(self, image: ReceivedInstance, priority: Priority = "routine") -> bool:
        """Whether `image`, of a study of that priority, meets all of them."""
        if self.priorities and priority not in self.priorities:
            return False
        return self._in_age(image.description.age) and self._described(image)

    def _in_age(self, age: float | None) -> bool:
        return self.ages is None or (age is not None and self.ages[0] <= age < self.ages[1])

    def _described(self, image: ReceivedInstance) -> bool:
        told = image.description
        words = (
            (self.modalities, told.modality),
            (self.body_parts, told.body_part),
            (self.views, told.view),
            (self.stations, told.station),
        )
        if not all(is_among(wanted, given) for wanted, given in words):
            return False
        codes = {code.value for code in told.procedures} | {f"{code.system}:{code.value}" for code in told.procedures}
        return (not self.sources or image.source in self.sources) and (
            not self.procedures or bool(self.procedures & codes)
        )


@dataclass(frozen=True, slots=True)
class Route:
    """Where studies go that meet the conditions.

    Attributes
    ----------
    service : str
        Name of the service that is asked.
    destinations : tuple of str
        Names of those that get results.
    reading_group : str or None
        Whose readers see the studies on the service's reading page.
    priors : PriorRules or None
        Which earlier studies they see beside it.
    """

    name: str
    service: str
    destinations: tuple[str, ...]
    completeness: CompletenessRules = field(
        default_factory=lambda: CompletenessRules(timedelta(seconds=60), timedelta(minutes=30))
    )
    conditions: Conditions = Conditions()
    reading_group: str | None = None
    priors: PriorRules | None = None


@dataclass(frozen=True, slots=True)
class Routed:
    """A route, and the images of a study that take it."""

    route: Route
    images: tuple[ReceivedInstance, ...]


def routed(
    routes: Sequence[Route], images: Sequence[ReceivedInstance], priority: Priority = "routine"
) -> Routed | None:
    """The first of `routes` that an image takes, with the images that do; None where none does.

    Parameters
    ----------
    priority : str
        Of the study: the highest of its orders.
    """
    for route in routes:
        taking = tuple(image for image in images if route.conditions.met_by(image, priority))
        if taking:
            return Routed(route, taking)
    return None
