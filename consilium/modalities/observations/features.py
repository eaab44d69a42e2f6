"""Observations, age and sex as the inputs of the observation encoder: which ones a model reads, and their scaling.

Each input is a number, a code, or both. The code says what is no number: the category of a categorical variable, or
that a value was sent as a limit (``<0.3``). With `history` 2 a variable has two more inputs: how old its last value is,
and how it changed since the one before.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import numpy as np

from consilium.domain.study import Patient, Sex, Study
from consilium.domain.variables import Variable, VariableTable
from consilium.modalities.observations.observation import Observation

LEAST_VALUES = 10
"""A variable is read where at least so many training studies have it."""
LEAST_GAP_HOURS = 6.0
"""Values closer to each other than this are compared as if they were so far apart: they differ by chance."""
DEMOGRAPHICS = ("age", "sex")
_LEAST_OF_NORMAL = 0.01
"""Below this share of the upper reference limit the logarithm of a value says nothing more."""
_ROUNDED = 0.02
"""Values that differ by less are one, rounded in two units."""
_FARTHEST = 6.0
"""Standardised values are held within so many standard deviations."""


class Aspect(StrEnum):
    """What of a variable an input holds."""

    VALUE = "value"
    AGE = "age"
    """Hours from the last value to the reference time."""
    CHANGE = "change"
    """From the value before to the last one, per day."""


@dataclass(frozen=True, slots=True)
class Course:
    """The last plausible observation of a variable, and the one before, where both have a time."""

    last: Observation
    before: Observation | None = None

    def hours_old(self, reference: datetime | None) -> float | None:
        """Age of the last value at `reference`, hours; negative where it is later; None where a time is not known."""
        if reference is None or self.last.time is None:
            return None
        return (reference - self.last.time) / timedelta(hours=1)

    @property
    def days_apart(self) -> float | None:
        """From the observation before to the last one, `LEAST_GAP_HOURS` at least; None where there is none before."""
        if self.before is None or self.before.time is None or self.last.time is None:
            return None
        return max((self.last.time - self.before.time) / timedelta(hours=1), LEAST_GAP_HOURS) / 24


@dataclass(frozen=True, slots=True)
class Reading:
    """What an input holds for one study: a standardised number, and a code (0: the number alone)."""

    number: float
    code: int = 0


@dataclass(frozen=True, slots=True)
class Feature:
    """One input of the observation encoder: ``age``, ``sex`` or an aspect of a variable, with its scaling.

    Attributes
    ----------
    floor : float or None
        Least value whose logarithm is taken; None: the value itself is standardised.
    categorical : bool
        The input is a category, one of `codes`.
    order : tuple of str
        All categories of an ordinal variable, lowest first: their places are its numbers.
    codes : tuple of str
        What training studies had beside a plain number: categories, or on which side of a limit the value lies
        (``<``, ``>``). Code k stands for entry k - 1.
    sd : float
        0 where every training study has the same number, and they differ by `codes` alone: the number is not read.
    shares : tuple of float
        How many of the training studies that have the variable have each of `codes`.
    """

    variable: str
    mean: float = 0.0
    sd: float = 1.0
    floor: float | None = None
    aspect: Aspect = Aspect.VALUE
    categorical: bool = False
    order: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """Unique among a model's features: the variable's name, for its value."""
        return self.variable if self.aspect is Aspect.VALUE else f"{self.variable}:{self.aspect.value}"

    @property
    def has_number(self) -> bool:
        """Whether its number says anything: not that of a category without an order."""
        return not self.categorical or bool(self.order)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Feature:
        """Read what `dataclasses.asdict` and JSON made of one."""
        lists = {name: tuple(data[name]) for name in ("order", "codes", "shares")}
        return cls(**{**data, **lists, "aspect": Aspect(data["aspect"])})

    def scale(self, value: float) -> float:
        """Standardised `value` of a numeric variable, clipped."""
        return self._standardise(_transformed(value, self.floor))

    def unscale(self, number: float) -> float:
        """The value of a numeric variable of which `scale` makes `number`."""
        raw = self.mean + number * self.sd
        return raw if self.floor is None else math.exp(raw)

    def read(self, course: Course, reference: datetime | None) -> Reading | None:
        """What this input holds of `course`; None where that is not known, or a category that no training study had."""
        raw = self.raw(course, reference)
        code = self.code(course.last) if self.aspect is Aspect.VALUE else 0
        if raw is None or (self.categorical and code == 0):
            return None
        return Reading(self._standardise(raw), code)

    def code(self, observation: Observation) -> int:
        """The code of `observation`; 0 where no training study had one like it, or it is a plain number."""
        label = observation.category if self.categorical else side(observation)
        return self.codes.index(label) + 1 if label in self.codes else 0

    def raw(self, course: Course, reference: datetime | None) -> float | None:
        """The number before it is standardised."""
        if self.aspect is Aspect.VALUE:
            return self._number(course.last)
        if self.aspect is Aspect.AGE:
            hours = course.hours_old(reference)
            # Evens out: an hour and two differ as a day and two do.
            return None if hours is None else math.copysign(math.log1p(abs(hours)), hours)
        # From a limit nothing changes by a known amount.
        if course.before is None or course.days_apart is None or side(course.last) or side(course.before):
            return None
        now, before = self._number(course.last), self._number(course.before)
        return None if now is None or before is None else (now - before) / course.days_apart

    def _number(self, observation: Observation) -> float | None:
        if observation.category is None:
            return _transformed(observation.value, self.floor)
        if not self.order:
            return 0.0
        return float(self.order.index(observation.category)) if observation.category in self.order else None

    def _standardise(self, raw: float) -> float:
        return float(np.clip((raw - self.mean) / self.sd, -_FARTHEST, _FARTHEST)) if self.sd else 0.0


def _transformed(value: float, floor: float | None) -> float:
    return value if floor is None else float(np.log(max(value, floor)))


def side(observation: Observation) -> str:
    """``<`` or ``>`` where the value was sent as a limit, else nothing."""
    return "" if observation.comparator is None else observation.comparator.value[0]


def courses(observations: Sequence[Observation]) -> dict[str, Course]:
    """The course of each variable; an observation without a time counts as older than one with."""
    found: dict[str, Course] = {}
    for observation in sorted(observations, key=lambda o: (o.time is not None, o.time or datetime.min)):
        if observation.implausible:
            continue
        known = found.get(observation.variable)
        before = None
        if known is not None and known.last.time is not None:
            before = known.before if known.last.time == observation.time else known.last
        found[observation.variable] = Course(observation, before)
    return found


def contradicted(observations: Sequence[Observation], last: Observation) -> bool:
    """Whether another plausible value of the same variable and time says something else than `last`."""
    return any(
        (other.variable, other.time) == (last.variable, last.time)
        and not other.implausible
        and (
            (other.category, other.comparator) != (last.category, last.comparator)
            or not math.isclose(other.value, last.value, rel_tol=_ROUNDED)
        )
        for other in observations
    )


def demographic(patient: Patient, name: str) -> float | None:
    """Age in years, or sex as 1 (female) and -1 (male); None where it is not known.

    As `Patient.deidentified` has them, in a request as in a cohort.
    """
    if name == "age":
        return patient.deidentified.age
    if name == "sex":
        return {Sex.FEMALE: 1.0, Sex.MALE: -1.0}.get(patient.sex)
    return None


def fit_features(studies: Sequence[Study], table: VariableTable, history: int = 1) -> tuple[Feature, ...]:
    """The features that at least `LEAST_VALUES` of the training studies have: age, sex, values, then their history.

    Parameters
    ----------
    table : VariableTable
        Of the variables of the observations.
    history : int
        2: also how old the last value is, and how it changed since the one before.
    """
    found = [_fitted(Feature(name), [demographic(study.patient, name) for study in studies]) for name in DEMOGRAPHICS]
    seen: dict[str, list[tuple[Course, datetime | None]]] = defaultdict(list)
    for study in studies:
        for name, course in courses(study.parts["observations"]).items():
            seen[name].append((course, study.reference_time))

    def fit(feature: Feature) -> Feature | None:
        return _fitted(feature, [feature.raw(*known) for known in seen[feature.variable]])

    values = [fit(_value(table[name], [course.last for course, _ in seen[name]])) for name in sorted(seen)]
    found += values
    if history > 1:
        found += [fit(aspect) for value in values if value is not None for aspect in _history(value)]
    return tuple(feature for feature in found if feature is not None)


def _value(variable: Variable, observations: Sequence[Observation]) -> Feature:
    """The feature of the variable's value, before it is fitted."""
    categorical = bool(variable.categories)
    labels = [observation.category if categorical else side(observation) for observation in observations]
    codes = tuple(code for code in variable.categories or ("<", ">") if code in labels)
    return Feature(
        variable.name,
        floor=_floor(variable, [observation.value for observation in observations]),
        categorical=categorical,
        order=variable.categories if variable.ordered else (),
        codes=codes,
        shares=tuple(labels.count(code) / len(labels) for code in codes),
    )


def _history(value: Feature) -> list[Feature]:
    plain = replace(value, categorical=False, codes=(), shares=())
    age, change = replace(plain, aspect=Aspect.AGE, floor=None, order=()), replace(plain, aspect=Aspect.CHANGE)
    return [age, change] if value.has_number else [age]


def _fitted(feature: Feature, raw: Sequence[float | None]) -> Feature | None:
    """`feature` with the scaling of what is known of `raw`; None where a model cannot learn what it means.

    That is where too few studies have it, or all have the same number: the distance of another from it is undefined.
    """
    known = [number for number in raw if number is not None]
    if len(known) < LEAST_VALUES:
        return None
    if min(known) == max(known) and not _codes_differ(feature):
        return None
    if not feature.has_number:
        return feature
    return replace(feature, mean=float(np.mean(known)), sd=0.0 if min(known) == max(known) else float(np.std(known)))


def _codes_differ(feature: Feature) -> bool:
    """Whether the training studies differ by the category, or by the side of a limit."""
    return len(feature.codes) > 1 or any(share < 1 for share in feature.shares)


def _floor(variable: Variable, values: Sequence[float]) -> float | None:
    """Least value of which the logarithm is taken: by the reference interval, else by the values themselves."""
    positive = [value for value in values if value > 0]
    if not variable.log_scale or not positive:
        return None
    reference = variable.normal_range()
    return (float(np.median(positive)) if reference is None else reference[1]) * _LEAST_OF_NORMAL
