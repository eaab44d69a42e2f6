"""Laboratory values and vital signs, where a model is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from consilium.configuration.modality_sections import Scope
from consilium.domain.study import Study
from consilium.domain.variable_records import own_variables
from consilium.domain.variables import VariableTable
from consilium.modalities.converter import Array
from consilium.modalities.observations.features import Course, courses
from consilium.modalities.observations.section import ObservationsSection
from training.cohorts.cohort import Cohort
from training.data.cached_cohort import CachedCohort
from training.modalities.observations.values_baseline import BASELINE
from training.modalities.observations.variable_check import own_variable_table
from training.training_side import Baseline, CheckTable, Names, Row, TrainingSide

NAME = "observations"
NOISE = 0.05
"""On values, in standard deviations of the training studies."""


class ObservationsTraining(TrainingSide):
    """Which values are there; a baseline of boosted trees."""

    def check_tables(self, cohort: Cohort, studies: Sequence[Study]) -> Mapping[str, CheckTable]:
        return {
            "observations": CheckTable("Studies with each value", _studies_with_values(cohort, studies)),
            "variables": CheckTable("Variables of this cohort", own_variable_table(cohort)),
        }

    def check_problems(self, cohort: Cohort) -> Sequence[str]:
        seen = {o.variable for record in cohort.records for o in record.parts[NAME]}
        return [
            f"variable {variable.name} is declared and stands in no study"
            for variable in own_variables(cohort.variables)
            if variable.name not in seen
        ]

    def origins(self, cached: CachedCohort, scope: Scope) -> Mapping[str, Sequence[Row]]:
        studies = [record.readable(scope) for record in cached.cohort.records]
        return {"missingness": [_filled(study, cached.cohort.variables) for study in studies]}

    def fields(self, studies: Sequence[Study], variables: VariableTable) -> Mapping[str, Sequence[bool]]:
        measured = [{o.variable for o in study.parts[NAME] if o.usable} for study in studies]
        return {variable.display: [name in own for own in measured] for name, variable in variables.items()}

    def subgroups(self, studies: Sequence[Study], variables: VariableTable) -> Mapping[str, Names]:
        """The last category of each categorical variable of the cohort's own."""
        known = [courses(study.parts[NAME]) for study in studies]
        return {
            variable.display: np.array([_category(of_study.get(variable.name)) for of_study in known])
            for variable in own_variables(variables)
            if variable.categories
        }

    def baseline(self) -> Baseline:
        return BASELINE

    def out_of_distribution_kinds(self) -> tuple[Any, ...]:
        from training.modalities.observations.odd_values import KINDS

        return KINDS

    def noisy(self, arrays: Mapping[str, Array], generator: np.random.Generator) -> Mapping[str, Array]:
        numbers = arrays["numbers"]
        return {"numbers": (numbers + generator.normal(0, NOISE, numbers.shape)).astype(np.float32)}

    def variables_in_words(self, section: ObservationsSection) -> str:
        if section.history > 1:
            return "Of each variable it reads the last value, how old that is and how it changed since the one before."
        return "Of each variable it reads the last value."


def _studies_with_values(cohort: Cohort, studies: Sequence[Study]) -> pd.DataFrame:
    """How many studies have each value; age and sex may come from the records of any modality."""
    counts: Counter[str] = Counter()
    variables = cohort.variables
    for record, study in zip(cohort.records, studies, strict=True):
        counts["age"] += study.patient.age is not None
        counts["sex"] += study.patient.sex.value in ("F", "M")
        counts.update(list(dict.fromkeys(variables[o.variable].display for o in record.parts[NAME] if o.usable)))
    lines = [{"value": name, "studies": count, "share": count / len(cohort)} for name, count in counts.most_common()]
    return pd.DataFrame(lines)


def _filled(study: Study, variables: VariableTable) -> Row:
    observations = study.parts[NAME]
    measured = {o.variable for o in observations if not o.implausible}
    return {
        "values": float(len(measured)),
        "value_time": float(any(o.time is not None for o in observations)),
        **{f"value_{variable}": float(variable in measured) for variable in variables},
    }


def _category(course: Course | None) -> str:
    return "unknown" if course is None or course.last.category is None else course.last.category
