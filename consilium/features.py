"""Observations, age and sex as the inputs of the observation encoder: which ones a model reads, and their scaling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from consilium.study import Observation, Patient, Sex, Study
from consilium.variables import BUILT_IN

LEAST_VALUES = 10
"""A variable is read where at least so many training studies have it."""
_LEAST_OF_NORMAL = 0.01
"""Below this share of the upper reference limit the logarithm of a value says nothing more."""
_FARTHEST = 6.0
"""Standardised values are held within so many standard deviations."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One input of the observation encoder: ``age``, ``sex`` or a variable, with its scaling.

    `floor` is the least value whose logarithm is taken; None: the value itself is standardised.
    """

    name: str
    floor: float | None
    mean: float
    sd: float

    def scale(self, value: float) -> float:
        """Standardised value, clipped."""
        raw = value if self.floor is None else np.log(max(value, self.floor))
        return float(np.clip((raw - self.mean) / self.sd, -_FARTHEST, _FARTHEST))


def latest_plausible(observations: Sequence[Observation]) -> dict[str, Observation]:
    """The last plausible observation of each variable; one without a time counts as older than one with."""
    found: dict[str, Observation] = {}
    for observation in sorted(observations, key=lambda o: o.time or datetime.min):
        if not observation.implausible:
            found[observation.variable] = observation
    return found


def demographic(patient: Patient, name: str) -> float | None:
    """Age in years, or sex as 1 (female) and -1 (male); None where it is not known."""
    if name == "age":
        return patient.age
    if name == "sex":
        return {Sex.FEMALE: 1.0, Sex.MALE: -1.0}.get(patient.sex)
    return None


def fit_features(studies: Sequence[Study]) -> tuple[Feature, ...]:
    """The features that at least `LEAST_VALUES` of the training studies have, age and sex first."""
    values: dict[str, list[float]] = {"age": [], "sex": []}
    for study in studies:
        for name in ("age", "sex"):
            known = demographic(study.patient, name)
            if known is not None:
                values[name].append(known)
        for name, observation in latest_plausible(study.observations).items():
            values.setdefault(name, []).append(observation.value)
    features = []
    for name in ["age", "sex", *sorted(set(values) - {"age", "sex"})]:
        if len(values[name]) < LEAST_VALUES:
            continue
        variable = BUILT_IN.get(name)
        log = variable is not None and variable.log_scale and variable.reference
        floor = log[1] * _LEAST_OF_NORMAL if log else None
        raw = np.array(values[name]) if floor is None else np.log(np.maximum(values[name], floor))
        features.append(Feature(name, floor, float(raw.mean()), float(max(raw.std(), 1e-6))))
    return tuple(features)
