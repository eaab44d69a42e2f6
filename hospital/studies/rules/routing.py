"""Which route a study takes, and which of its images: the first whose conditions an image meets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from hospital.store.received import ReceivedInstance
from hospital.studies.rules.completeness import CompletenessRules


@dataclass(frozen=True, slots=True)
class Conditions:
    """What an image must say of itself; an empty set asks nothing.

    Words are compared as DICOM's code strings are: without regard to case, underscores and blanks around them.
    Procedures are codes of the procedure as performed or requested, with their scheme (``SCT:399208008``) or without.
    """

    sources: frozenset[str] = frozenset()
    modalities: frozenset[str] = frozenset()
    body_parts: frozenset[str] = frozenset()
    views: frozenset[str] = frozenset()
    stations: frozenset[str] = frozenset()
    procedures: frozenset[str] = frozenset()

    def met_by(self, image: ReceivedInstance) -> bool:
        told = image.description
        words = (
            (self.modalities, told.modality),
            (self.body_parts, told.body_part),
            (self.views, told.view),
            (self.stations, told.station),
        )
        if any(wanted and folded(given) not in {folded(word) for word in wanted} for wanted, given in words):
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
    """

    name: str
    service: str
    destinations: tuple[str, ...]
    completeness: CompletenessRules = field(
        default_factory=lambda: CompletenessRules(timedelta(seconds=60), timedelta(minutes=30))
    )
    conditions: Conditions = Conditions()
    reading_group: str | None = None


@dataclass(frozen=True, slots=True)
class Routed:
    """A route, and the images of a study that take it."""

    route: Route
    images: tuple[ReceivedInstance, ...]


def routed(routes: Sequence[Route], images: Sequence[ReceivedInstance]) -> Routed | None:
    """The first of `routes` that an image takes, with the images that do; None where none does."""
    for route in routes:
        taking = tuple(image for image in images if route.conditions.met_by(image))
        if taking:
            return Routed(route, taking)
    return None


def folded(word: str | None) -> str:
    """A code string as it is compared."""
    return " ".join((word or "").upper().replace("_", " ").split())
