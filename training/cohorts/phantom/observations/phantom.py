"""Values of the phantom: a channel per decisive variable, some of which are not measured; age and sex."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import InputError
from training.cohorts.phantom.observations.values import SPEAKS_FOR, VARIABLE_CHANNELS, Measurement, render_values
from training.cohorts.phantom.phantom_modality import (
    Asked,
    Floats,
    PhantomModality,
    Row,
    Sent,
    Target,
    Written,
    channel_means,
    summed,
)
from training.cohorts.phantom.record import Design, Drawn, Shift, stream
from training.cohorts.phantom.state import MEMBERS, SEXES, State, StateTable, presence
from training.cohorts.phantom.tables import table

OBSERVATIONS_FILE = "observations.csv"
DECISIVE_FILE = "truth/decisive.csv"
_COLUMNS = ("study", "code", "value", "unit", "time")


@dataclass(frozen=True, slots=True, eq=False)
class ValueEvidence:
    """Evidence of one study's values.

    Attributes
    ----------
    drawn : float64 [C]
    measured : bool [C]
        Values that were measured; the others are not in the record.
    """

    drawn: Floats
    measured: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class ValueReading:
    """What the oracle reads of N records' values.

    Attributes
    ----------
    written : float64 [N, C]
        Evidence read back from the written (rounded) values.
    measured : bool [N, C]
    age, sex : int64 [N]
        Years; index into `SEXES`.
    """

    written: Floats
    measured: npt.NDArray[np.bool_]
    age: npt.NDArray[np.int64]
    sex: npt.NDArray[np.int64]


class ObservationsPhantom(PhantomModality):
    """Laboratory values and vital signs.

    Attributes
    ----------
    evidence_table : str
        Name of the stored table of its evidence.
    means : float64 [S, C]
    missing_values : float64 [S, C]
        P(value not measured | state).
    """

    name = "observations"
    truth = "training.modalities.observations.value_truth:ValueTruth"
    missing = table("evidence")["missing_modality"]["observations"]
    demographics = True
    read_as_written = True
    tables = MappingProxyType(
        {OBSERVATIONS_FILE: _COLUMNS, DECISIVE_FILE: (*_COLUMNS, "analyte", "finding", "evidence")}
    )

    evidence_table: ClassVar[str] = "evidence"

    def __init__(
        self, members: tuple[str, ...] = MEMBERS, missing_value: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        super().__init__(members)
        self.means: Floats = channel_means(table(self.evidence_table)["observations"], members)
        self.missing_values = _missing_values(missing_value, members)

    @classmethod
    def shifted(cls, shift: Shift, members: tuple[str, ...]) -> ObservationsPhantom:
        return cls(members, shift.missing_value)

    def draw(self, state: State, rng: np.random.Generator) -> ValueEvidence:
        values = rng.normal(self.means[state.index])
        measured = rng.random(len(VARIABLE_CHANNELS)) >= self.missing_values[state.index]
        return ValueEvidence(values, measured)

    def render(self, design: Design, study: Drawn) -> list[Measurement]:
        evidence: ValueEvidence = study.evidence.parts[self.name]
        return render_values(evidence.drawn, evidence.measured, stream(design, study.index, "values"))

    def write(self, target: Target, rendered: list[Measurement] | None) -> Written:
        measurements = rendered or []
        rows = [_row(target.study, measurement) for measurement in measurements]
        decisive: list[Row] = [
            {**row, "analyte": m.variable, "finding": SPEAKS_FOR[m.variable], "evidence": m.evidence}
            for row, m in zip(rows, measurements, strict=True)
            if m.evidence is not None
        ]
        return Written({}, rows={OBSERVATIONS_FILE: rows, DECISIVE_FILE: decisive})

    def read(self, studies: Sequence[Drawn], rendered: Sequence[list[Measurement] | None]) -> ValueReading:
        written = np.zeros((len(studies), len(VARIABLE_CHANNELS)))
        for row, measurements in enumerate(rendered):
            for m in measurements or []:
                if m.evidence is not None:
                    written[row, VARIABLE_CHANNELS.index(m.variable)] = m.evidence
        return ValueReading(
            written=written,
            measured=np.stack([study.evidence.parts[self.name].measured for study in studies]),
            age=np.array([study.state.age for study in studies]),
            sex=np.array([SEXES.index(study.state.sex) for study in studies]),
        )

    def log_likelihood(self, reading: ValueReading, states: StateTable) -> Floats:
        values = self.value_log_likelihood(reading.written, reading.measured)
        return values + np.log(states.given(reading.age, reading.sex)) - np.log(states.prior)

    def value_log_likelihood(self, values: Floats, measured: npt.NDArray[np.bool_]) -> Floats:
        """Log p(measured values, which were measured | state) up to a constant, float64 [N, S]; both inputs [N, C]."""
        seen = np.where(measured, values, 0.0)
        known = measured.astype(np.float64)
        seen_values = summed(seen, self.means) - 0.5 * summed(known, self.means**2)
        absent, there = np.log(self.missing_values), np.log(1 - self.missing_values)
        return seen_values + summed(known, there) + summed(1 - known, absent)

    def request(self, asked: Asked) -> Sent:
        from training.cohorts.phantom.observations.requested_values import requested_values

        rngs = (stream(asked.design, asked.study.index, name) for name in ("record", "values"))
        return Sent(requested_values(asked.preprocessing, *rngs))

    def describe(self, evidence: ValueEvidence) -> Row:
        channels = zip(VARIABLE_CHANNELS, evidence.drawn, evidence.measured, strict=True)
        return {f"observations:{name}": float(x) if known else None for name, x, known in channels}


def _row(study: Drawn, m: Measurement) -> Row:
    time = (study.reference_time + timedelta(hours=m.hours)).replace(microsecond=0).isoformat()
    return {"study": study.study_id, "code": m.code, "value": m.value, "unit": m.unit, "time": time}


def _missing_values(changed: Mapping[str, float], members: tuple[str, ...]) -> Floats:
    rates = {**table("evidence")["missing_value"], **changed}
    for key, rate in rates.items():
        if key not in ("absent", "present"):
            raise InputError("missing_value", key, "must be one of absent, present")
        if not 0 < rate < 1:
            raise InputError(f"missing_value[{key}]", rate, "must be a probability above 0 and below 1")
    present = presence(len(members))
    missing = np.empty((len(present), len(VARIABLE_CHANNELS)))
    for channel, name in enumerate(VARIABLE_CHANNELS):
        there = present[:, members.index(SPEAKS_FOR[name])]
        missing[:, channel] = np.where(there, rates["present"], rates["absent"])
    return missing
