"""Observations, age and sex → standardised numbers and codes, one for each fitted feature."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from consilium.domain.errors import InputError
from consilium.domain.study import Study
from consilium.domain.variables import Variable, VariableTable
from consilium.modalities.observations.features import (
    LEAST_VALUES,
    Aspect,
    Course,
    Feature,
    Reading,
    contradicted,
    courses,
    demographic,
    fit_features,
    side,
)
from consilium.modalities.observations.observation import Observation
from consilium.modalities.observations.presentation import ObservationsInformation, VariableInformation
from consilium.modalities.observations.section import ObservationsSection
from consilium.modalities.part import MASK, Part, Preparation

NUMBERS, CODES = "numbers", "codes"
_STATE = "features.json"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ObservationsPart(Part):
    """The values of one study for the A features of a model.

    Attributes
    ----------
    arrays : mapping
        ``numbers`` float32 [A], standardised, NaN where missing; ``codes`` int64 [A], what is no number, see
        `Feature.codes`; 0 where there is nothing of the kind.
    read : tuple of (Course or None)
        Which observations each feature was read from, [A]; None for age, sex and missing ones.
    """

    read: tuple[Course | None, ...]

    @property
    def present(self) -> bool:
        return bool(np.isfinite(self.arrays[NUMBERS]).any())


class ObservationsPreparation(Preparation[ObservationsPart]):
    """Standardises the values that the training studies had.

    Attributes
    ----------
    features : tuple of Feature
        Inputs of the encoder, A of them.
    variables : VariableTable
        What the observations' variables are: the built-in ones, and those of the cohort.
    """

    key = "features1"

    def __init__(self, features: Sequence[Feature], variables: VariableTable) -> None:
        self.features = tuple(features)
        self.variables = variables

    @classmethod
    def fit(
        cls, section: ObservationsSection, studies: Sequence[Study], variables: VariableTable
    ) -> ObservationsPreparation:
        """Choose and scale the features that enough of the training studies have."""
        features = fit_features(studies, variables, section.history)
        if not features:
            rule = f"needs age, sex or a variable known for at least {LEAST_VALUES} training studies"
            raise InputError("modalities", "observations", rule)
        return cls(features, variables)

    def prepare(self, study: Study, received: Study, converted: Sequence[Any] | None = None) -> ObservationsPart:
        del received, converted
        known = courses(study.parts["observations"])
        numbers = np.full(len(self.features), np.nan, np.float32)
        codes = np.zeros(len(self.features), np.int64)
        read: list[Course | None] = []
        for position, feature in enumerate(self.features):
            course = known.get(feature.variable)
            reading = None if course is None else feature.read(course, study.reference_time)
            demographics = demographic(study.patient, feature.variable)
            if demographics is not None:
                reading = Reading(feature.scale(demographics))
            read.append(course if reading is not None else None)
            if reading is not None:
                numbers[position], codes[position] = reading.number, reading.code
        warnings = tuple(self._warnings(study.parts["observations"], known))
        return ObservationsPart(arrays={NUMBERS: numbers, CODES: codes}, warnings=warnings, read=tuple(read))

    def _warnings(self, given: Sequence[Observation], known: Mapping[str, Course]) -> list[str]:
        """What of the values is not read, or not read as it stands."""
        values = {feature.variable: feature for feature in self.features if feature.aspect is Aspect.VALUE}
        warnings = [
            f"observation not read by this model: {self.variables[name].display if name in self.variables else name}"
            for name in sorted(set(known) - set(values))
        ]
        for name in sorted(set(known) & set(values)):
            warnings += _warnings_of_one(self.variables[name], values[name], given, known[name].last)
        return warnings

    def collate(self, parts: Sequence[ObservationsPart]) -> dict[str, Tensor]:
        """``numbers`` float32 [B, A], 0 where missing, ``codes`` int64 [B, A] and ``mask`` bool [B, A]."""
        numbers = np.stack([part.arrays[NUMBERS] for part in parts])
        known = np.isfinite(numbers)
        return {
            NUMBERS: torch.from_numpy(np.where(known, numbers, 0).astype(np.float32)),
            CODES: torch.from_numpy(np.stack([part.arrays[CODES] for part in parts])),
            MASK: torch.from_numpy(known),
        }

    @property
    def read_variables(self) -> tuple[Variable, ...]:
        read = {feature.variable for feature in self.features}
        return tuple(variable for variable in self.variables.values() if variable.name in read)

    def information(self, section: ObservationsSection) -> ObservationsInformation:
        read = tuple(VariableInformation.of(variable) for variable in self.read_variables)
        return ObservationsInformation(variables=read, history=section.history)

    def save(self, folder: Path) -> None:
        state = [asdict(feature) for feature in self.features]
        (folder / _STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, section: ObservationsSection, variables: VariableTable) -> ObservationsPreparation:
        del section
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        return cls([Feature.from_json(feature) for feature in state], variables)

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps([repr(feature) for feature in self.features]).encode()).hexdigest()


def _warnings_of_one(
    variable: Variable, feature: Feature, given: Sequence[Observation], last: Observation
) -> list[str]:
    warnings = []
    if contradicted(given, last):
        when = "of one time" if last.time else "without a time"
        warnings.append(
            f"{variable.display}: values {when} differ, the last one that was sent is read, {last.given_text}"
        )
    if feature.code(last):
        return warnings
    if feature.categorical:
        rule = "no training study of this model had this category"
        warnings.append(f"observation left out: {variable.display} {last.category}, {rule}")
    elif side(last):
        rule = "read as the limit itself, since no training study of this model had such a value"
        warnings.append(f"{variable.display} {last.given_text}: {rule}")
    return warnings
