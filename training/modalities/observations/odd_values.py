"""Values that no patient has, and values whose unit was mistaken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from consilium.domain.study import Study
from consilium.domain.variables import BUILT_IN, VariableTable
from consilium.modalities.observations.observation import Observation
from consilium.modalities.observations.records import read_observations
from consilium.modalities.registry import default_context
from training.evaluation.out_of_distribution.kinds import Case, Change, Kind

_NAME = "observations"
MISTAKEN: Mapping[str, float] = MappingProxyType(
    {
        "albumin": 10.0,  # g/dL and g/L
        "bilirubin": 17.1,  # mg/dL and umol/L
        "bnp": 3.46,  # pmol/L and pg/mL
        "creatinine": 88.4,  # mg/dL and umol/L
        "crp": 10.0,  # mg/dL and mg/L
        "d_dimer": 1000.0,  # ug/mL and ng/mL
        "glucose": 18.0,  # mmol/L and mg/dL
        "hemoglobin": 10.0,  # g/dL and g/L
        "ldh": 60.0,  # ukat/L and U/L
        "lymphocytes": 1000.0,  # per nL and per uL
        "neutrophils": 1000.0,
        "nt_probnp": 8.46,  # pmol/L and pg/mL
        "platelets": 1000.0,
        "po2": 7.5,  # kPa and mm[Hg]
        "pco2": 7.5,
        "procalcitonin": 1000.0,  # ng/mL and pg/mL
        "troponin_t": 1000.0,  # ng/mL and ng/L
        "urea": 2.8,  # mmol/L and mg/dL of urea nitrogen
        "wbc": 1000.0,
    }
)
"""By what a value is too high or too low where one of two usual units is taken for the other."""


def impossible(
    observations: Sequence[Observation], rng: np.random.Generator, variables: VariableTable = BUILT_IN
) -> tuple[Observation, ...]:
    """Every value a thousand times too high, or below zero."""
    return _read(observations, [float(rng.choice((1000.0, -1.0, -1000.0))) for _ in observations], variables)


def mixed_units(
    observations: Sequence[Observation], rng: np.random.Generator, variables: VariableTable = BUILT_IN
) -> tuple[Observation, ...]:
    """Every value that has two usual units, given in the other one: all too high or all too low."""
    power = 1 if rng.random() < 0.5 else -1
    return _read(observations, [MISTAKEN.get(o.variable, 1.0) ** power for o in observations], variables)


def one_mixed_unit(
    observations: Sequence[Observation], rng: np.random.Generator, variables: VariableTable = BUILT_IN
) -> tuple[Observation, ...]:
    """One value of those that have two usual units, given in the other one."""
    able = [position for position, o in enumerate(observations) if o.variable in MISTAKEN]
    factors = [1.0] * len(observations)
    if able:
        chosen = int(rng.choice(able))
        factors[chosen] = MISTAKEN[observations[chosen].variable] ** (1 if rng.random() < 0.5 else -1)
    return _read(observations, factors, variables)


def _read(
    observations: Sequence[Observation], factors: Sequence[float], variables: VariableTable
) -> tuple[Observation, ...]:
    """The observations with their values multiplied, read again as a caller would send them; categories stay."""
    return tuple(
        observation if observation.category is not None else _multiplied(observation, factor, variables)
        for observation, factor in zip(observations, factors, strict=True)
    )


def _multiplied(observation: Observation, factor: float, variables: VariableTable) -> Observation:
    value = observation.given_value * factor
    sent = {"code": observation.code, "value": value, "unit": observation.given_unit}
    ((read,), _) = read_observations([sent], context=default_context(variables=variables))
    return replace(read, time=observation.time, comparator=observation.comparator)


# --- in a study ------------------------------------------------------------------------------------------------------


def _changed(
    change_values: Callable[[Sequence[Observation], np.random.Generator, VariableTable], tuple[Observation, ...]],
) -> Change:
    def change(case: Case, rng: np.random.Generator) -> Study:
        values = change_values(case.study.parts[_NAME], rng, case.variables)
        return case.study.with_parts(**{_NAME: values})

    return change


KINDS: tuple[Kind, ...] = (
    Kind("impossible values", _NAME, True, _changed(impossible)),
    Kind("mixed units", _NAME, True, _changed(mixed_units)),
    Kind("one mixed unit", _NAME, False, _changed(one_mixed_unit)),
)
