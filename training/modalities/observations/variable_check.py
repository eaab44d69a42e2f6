"""What a cohort holds of the variables that it declares."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd

from consilium.domain.variable_records import own_variables
from consilium.domain.variables import Variable
from consilium.formats.lab_notation import figure, measured
from consilium.modalities.observations.observation import Observation
from training.cohorts.cohort import Cohort

_COLUMNS = ("variable", "kind", "studies", "values", "limits", "implausible", "found")


def own_variable_table(cohort: Cohort) -> pd.DataFrame:
    """A line for each variable that the cohort declares.

    Returns
    -------
    DataFrame
        variable, kind; studies that have it; values, of which limits and implausible ones; found: median and quartiles
        of the plausible values, or how often each category occurs.
    """
    seen: dict[str, list[list[Observation]]] = defaultdict(list)
    for record in cohort.records:
        own: dict[str, list[Observation]] = defaultdict(list)
        for observation in record.parts["observations"]:
            own[observation.variable].append(observation)
        for name, observations in own.items():
            seen[name].append(observations)
    lines = [_line(variable, seen[variable.name]) for variable in own_variables(cohort.variables)]
    return pd.DataFrame(lines, columns=list(_COLUMNS))


def _line(variable: Variable, studies: Sequence[Sequence[Observation]]) -> dict[str, object]:
    values = [observation for study in studies for observation in study]
    plausible = [observation for observation in values if not observation.implausible]
    return {
        "variable": variable.display,
        "kind": variable.kind.value,
        "studies": len(studies),
        "values": len(values),
        "limits": sum(observation.comparator is not None for observation in values),
        "implausible": len(values) - len(plausible),
        "found": _found(variable, plausible),
    }


def _found(variable: Variable, values: Sequence[Observation]) -> str:
    if not values:
        return ""
    if variable.categories:
        counts = Counter(observation.category for observation in values)
        return ", ".join(f"{category}: {counts[category]}" for category in variable.categories)
    low, middle, high = np.quantile([observation.value for observation in values], [0.25, 0.5, 0.75])
    return measured(f"{figure(middle)} ({figure(low)} to {figure(high)})", variable.unit)
