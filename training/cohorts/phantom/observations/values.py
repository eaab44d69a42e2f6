"""Values: laboratory values and vital signs from evidence and nuisance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from training.cohorts.phantom.tables import table

VARIABLE_CHANNELS: tuple[str, ...] = tuple(table("evidence")["observations"])
SPEAKS_FOR: dict[str, str] = {name: next(iter(row)) for name, row in table("evidence")["observations"].items()}
"""The finding that each decisive variable is evidence for."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One written value.

    Attributes
    ----------
    variable, code, unit : str
        Key of the variable table, LOINC, UCUM.
    value : float
        As written, in `unit`.
    hours : float
        When it was measured, relative to the reference time; negative is before.
    evidence : float or None
        What `value` says, read back from the rounded number; None: nothing, the variable is irrelevant.
    """

    variable: str
    code: str
    value: float
    unit: str
    hours: float
    evidence: float | None = None


def _rounded(value: float, row: dict[str, Any]) -> float:
    if "decimals" in row:
        return round(value, row["decimals"])
    digits = table("values")["significant_digits"]
    return round(value, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0.0


def _unit(row: dict[str, Any], draw: float) -> tuple[str, str, float]:
    """LOINC code, unit and factor chosen by a uniform draw."""
    cumulative = np.cumsum([chance for *_, chance in row["units"]])
    code, unit, factor, _ = row["units"][int(np.searchsorted(cumulative[:-1], draw, side="right"))]
    return str(code), unit, float(factor)


def value_of(variable: str, evidence: float) -> float:
    """The value that carries this evidence, in the variable table's unit: strictly monotone."""
    row = table("values")["decisive"][variable]
    return row["median"] * math.exp(row["log_sd"] * evidence)


def evidence_of(variable: str, value: float) -> float:
    """Inverse of `value_of`."""
    row = table("values")["decisive"][variable]
    return math.log(value / row["median"]) / row["log_sd"]


def _decisive(variable: str, evidence: float, draws: npt.NDArray[np.float64], hours: float) -> Measurement:
    row = table("values")["decisive"][variable]
    code, unit, factor = _unit(row, draws[0])
    written = _rounded(value_of(variable, evidence) * factor, row)
    return Measurement(variable, code, written, unit, hours, evidence_of(variable, written / factor))


def _irrelevant(variable: str, deviate: float, draw: float, hours: float) -> Measurement:
    row = table("values")["irrelevant"][variable]
    code, unit, factor = _unit(row, draw)
    value = max(row["mean"] + row["sd"] * deviate, 0.1 * row["mean"])
    return Measurement(variable, code, _rounded(value * factor, row), unit, hours)


def render_values(
    evidence: Sequence[float] | npt.NDArray[np.float64], measured: npt.NDArray[np.bool_], rng: np.random.Generator
) -> list[Measurement]:
    """One study's values.

    Parameters
    ----------
    evidence, measured : [len(VARIABLE_CHANNELS)]
        A decisive variable that was not measured is left out; nuisance is drawn all the same, so that changed evidence
        changes nothing else.
    rng : Generator
        Nuisance: units, times, irrelevant variables, and now and then one of those measured again later.

    Returns
    -------
    list of Measurement, earliest first
    """
    stored = table("values")
    earliest, latest = stored["hours_before"][1], stored["hours_before"][0]
    names = [*VARIABLE_CHANNELS, *stored["irrelevant"]]
    draws = rng.random((len(names), 3))
    deviates = rng.normal(size=(len(names), 2))
    rows = []
    for k, name in enumerate(names):
        hours = -round(latest + (earliest - latest) * float(draws[k, 1]), 2)
        if name in VARIABLE_CHANNELS:
            if measured[k]:
                rows.append(_decisive(name, float(evidence[k]), draws[k], hours))
            continue
        if draws[k, 2] < stored["irrelevant"][name]["measured"]:
            rows.append(_irrelevant(name, float(deviates[k, 0]), float(draws[k, 0]), hours))
    again = list(stored["irrelevant"])[int(rng.integers(len(stored["irrelevant"])))]
    repeated, later, deviate, draw = rng.random(), rng.uniform(2.0, 24.0), rng.normal(), rng.random()
    if repeated < stored["repeated_later"]:
        rows.append(_irrelevant(again, float(deviate), float(draw), round(float(later), 2)))
    return sorted(rows, key=lambda row: (row.hours, row.variable))
