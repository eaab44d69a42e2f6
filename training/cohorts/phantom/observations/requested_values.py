"""Values of a made-up request: drawn around the means that the model scales with, so that it reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from consilium.domain.variables import BUILT_IN, Variable
from consilium.modalities.observations.features import DEMOGRAPHICS, Aspect, Feature
from consilium.preprocessing.collate import Preprocessing

_SIGNIFICANT = 4
_LIMITS = 0.2
"""Share of the values that are sent as limits, where training studies had some."""
_MOMENT = datetime(2024, 5, 1, 12, tzinfo=UTC)
"""Reference time, where a model looks at times."""


def requested_values(
    preprocessing: Preprocessing, rng: np.random.Generator, more: np.random.Generator
) -> dict[str, object]:
    """Observations and patient: each value with two chances of three, and of the variables at least one.

    What is no plain number is drawn from `more`: categories, limits, and earlier values where the model reads them.
    """
    fitted = preprocessing.preparations["observations"].features
    features = [feature for feature in fitted if feature.aspect is Aspect.VALUE]
    there = rng.random(len(features)) < 2 / 3
    variables = [place for place, feature in enumerate(features) if feature.name not in DEMOGRAPHICS]
    there[variables[int(rng.integers(len(variables)))] if variables else 0] = True
    # Ingest takes no study of age and sex alone: a model of nothing else is asked with a value that it leaves out.
    observations = [] if variables else [_observation(BUILT_IN["crp"], 5.0)]
    patient: dict[str, object] = {}
    for feature, is_there, draw in zip(features, there.tolist(), rng.normal(size=len(features)).tolist(), strict=True):
        if not is_there:
            continue
        if feature.name == "sex":
            patient["sex"] = "F" if draw > 0 else "M"
        elif feature.name == "age":
            patient["age"] = float(np.clip(round(feature.unscale(draw)), 0, 110))
        else:
            observations += _observations(preprocessing, feature, draw, more)
    timed = (
        {"reference_time": _MOMENT.isoformat()} if preprocessing.recipe.modalities["observations"].history > 1 else {}
    )
    return {"observations": observations, "patient": patient or None, **timed}


def _observations(
    preprocessing: Preprocessing, feature: Feature, draw: float, rng: np.random.Generator
) -> list[dict[str, object]]:
    """The value of `feature` that `draw` standard deviations lead to; with its history, one before it as well."""
    variable = preprocessing.variables[feature.variable]
    if preprocessing.recipe.modalities["observations"].history < 2:
        return [_drawn(variable, feature, draw, rng)]
    window = preprocessing.recipe.inputs.before_hours
    hours = sorted((rng.random(2) * window).tolist(), reverse=True)
    return [
        _drawn(variable, feature, number, rng) | {"time": (_MOMENT - timedelta(hours=round(ago, 1))).isoformat()}
        for ago, number in zip(hours, (float(rng.normal()), draw), strict=True)
    ]


def _drawn(variable: Variable, feature: Feature, draw: float, rng: np.random.Generator) -> dict[str, object]:
    if feature.categorical:
        return {"code": variable.code, "value": str(rng.choice(feature.codes)), "unit": ""}
    observation = _observation(variable, feature.unscale(draw))
    if feature.codes and rng.random() < _LIMITS:
        observation["value"] = f"{rng.choice(feature.codes)}{observation['value']}"
    return observation


def _observation(variable: Variable, value: float) -> dict[str, object]:
    plausible = float(np.clip(value, variable.plausible_low, variable.plausible_high))
    return {"code": variable.code, "value": float(f"{plausible:.{_SIGNIFICANT}g}"), "unit": variable.unit}
