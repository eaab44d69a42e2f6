"""A baseline of laboratory values, vital signs, age and sex: boosted trees of the last value of each variable."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline

from consilium.domain.study import Sex
from consilium.domain.variables import Variable, VariableTable
from consilium.modalities.observations.observation import Observation
from training.training_side import Baseline, Readable, Source


def _values_source(readable: Readable) -> Source:
    studies, variables, seed = readable.studies, readable.cached.cohort.variables, readable.seed
    column = {name: number for number, name in enumerate(_value_columns(variables))}
    features = np.full((len(studies), len(column) + 3), np.nan)
    # A constant, which carries nothing, for studies of which nothing was measured.
    features[:, -3] = 0
    for row, study in enumerate(studies):
        features[row, -2] = np.nan if study.patient.age is None else study.patient.age
        features[row, -1] = {Sex.FEMALE: 0.0, Sex.MALE: 1.0}.get(study.patient.sex, np.nan)
        for observation in sorted(study.parts["observations"], key=_when):
            if not observation.implausible:
                for name, value in _value_cells(observation, variables[observation.variable]):
                    features[row, column[name]] = value

    def classifier() -> Pipeline:
        boosting = HistGradientBoostingClassifier(
            learning_rate=0.05,
            max_iter=100,
            max_leaf_nodes=8,
            min_samples_leaf=10,
            l2_regularization=1.0,
            random_state=seed,
        )
        # A column without any value cannot be binned.
        return make_pipeline(ColumnTransformer([("measured", "passthrough", _measured)]), boosting)

    return Source(features, np.ones(len(studies), bool), classifier)


def _value_columns(variables: VariableTable) -> list[str]:
    """One for each variable: its number, or its place in the order. One for each category where these have no order."""
    return [name for variable in variables.values() for name in (_category_columns(variable) or [variable.name])]


def _category_columns(variable: Variable) -> list[str]:
    return [] if variable.ordered else [f"{variable.name}={category}" for category in variable.categories]


def _value_cells(observation: Observation, variable: Variable) -> list[tuple[str, float]]:
    columns = _category_columns(variable)
    if not columns:
        return [(variable.name, observation.value)]
    return [(name, float(name == f"{variable.name}={observation.category}")) for name in columns]


def _measured(features: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.flatnonzero(~np.isnan(features).all(axis=0))


def _when(observation: Observation) -> tuple[bool, datetime]:
    """Sort key: the latest of several values stands; one without a time yields to those that have one."""
    return observation.time is not None, observation.time or datetime.min


BASELINE = Baseline("values_gradient_boosting", _values_source, averaged=True)
