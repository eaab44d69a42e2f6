"""What each observation spoke for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from consilium.analytes import ANALYTES
from consilium.collate import Prepared
from consilium.diagnosis import ObservationWeight
from consilium.features import Feature

GRADIENT = "gradient_x_value"
LEAVE_ONE_OUT = "leave_one_out"


def observation_weights(
    prepared: Prepared, features: tuple[Feature, ...], weights: Mapping[int, float]
) -> tuple[ObservationWeight, ...]:
    """`weights` by feature position, named as the caller sent the values."""
    return tuple(_named(prepared, position, features[position].name, weight) for position, weight in weights.items())


def known_features(observations: npt.NDArray[np.float32]) -> list[int]:
    """Positions of the features that the study has."""
    return [int(position) for position in np.flatnonzero(np.isfinite(observations))]


def _named(prepared: Prepared, position: int, name: str, weight: float) -> ObservationWeight:
    observation = prepared.read[position]
    patient = prepared.study.patient
    if observation is not None:
        display = ANALYTES[name].display
        return ObservationWeight(name, display, f"{observation.given_value:g}", observation.given_unit, weight)
    if name == "age":
        return ObservationWeight(name, "Age", f"{patient.age:g}", "a", weight)
    return ObservationWeight(name, "Sex", patient.sex.value, "", weight)
