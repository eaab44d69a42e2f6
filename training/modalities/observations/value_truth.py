"""Which values of a phantom carry evidence, and the values without one piece of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from consilium.explain.case import Case
from consilium.modalities.observations.features import DEMOGRAPHICS
from consilium.preprocessing.collate import converted
from training.cohorts.phantom.observations.phantom import ValueReading
from training.cohorts.phantom.observations.values import SPEAKS_FOR, VARIABLE_CHANNELS, value_of
from training.evaluation.faithfulness.phantom_truth import ModalityTruth, Remade, neutral
from training.evaluation.faithfulness.truth import Mask, Twin


class ValueTruth(ModalityTruth):
    """Each channel is one variable; the units are features."""

    name = "observations"

    def decisive(self, case: Case, finding: str) -> tuple[Mask, Mask]:
        """Age and sex are neither decisive nor beside the point."""
        features = case.preprocessing.preparations[self.name].features
        names = np.array([features[position].name for position in case.units.get(self.name, ())], str)
        return np.isin(names, list(decisive_variables(finding))), ~np.isin(names, list(DEMOGRAPHICS))

    def twins(self, remade: Remade) -> Iterator[Twin]:
        own: ValueReading = remade.readings[self.name]
        prepared, preprocessing = remade.case.prepared, remade.case.preprocessing
        fitted = preprocessing.preparations[self.name].features
        features = {feature.name: position for position, feature in enumerate(fitted)}
        for channel, variable in enumerate(VARIABLE_CHANNELS):
            course = prepared.parts[self.name].read[features[variable]] if variable in features else None
            if course is None:
                continue
            read, finding = course.last, SPEAKS_FOR[variable]
            value = neutral(self.name, variable, finding)
            ratio = value_of(variable, value) / value_of(variable, float(own.written[0, channel]))
            other = replace(read, value=read.value * ratio, given_value=read.given_value * ratio)
            observations = tuple(other if o is read else o for o in prepared.study.parts[self.name])
            changed = own.written.copy()
            changed[0, channel] = value
            study = prepared.study.with_parts(**{self.name: observations})
            twin = preprocessing.prepare(study, converted(preprocessing, prepared))
            where = np.array([feature == features[variable] for feature in remade.case.units[self.name]])
            yield Twin(self.name, finding, twin, remade.fall(self.name, replace(own, written=changed), finding), where)


def decisive_variables(finding: str) -> frozenset[str]:
    """The variables whose value is evidence for `finding`."""
    return frozenset(variable for variable, evidence_for in SPEAKS_FOR.items() if evidence_for == finding)
