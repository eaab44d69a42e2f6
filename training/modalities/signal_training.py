"""Signals, where a model is trained: faults counted, copies by their bytes, groups by the kind of file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import pandas as pd

from consilium.configuration.modality_sections import Scope
from consilium.domain.study import Study
from consilium.domain.variables import VariableTable
from training.cohorts.cohort import Cohort
from training.data.cached_cohort import CachedCohort
from training.training_side import CheckTable, Copies, Indices, Names, TrainingSide


class SignalTraining(TrainingSide):
    """What modalities share whose records have faults and are of several kinds of files.

    Attributes
    ----------
    one, several : str
        What a record is called, and more than one.
    """

    one: ClassVar[str]
    several: ClassVar[str]

    def check_tables(self, cohort: Cohort, studies: Sequence[Study]) -> Mapping[str, CheckTable]:
        del cohort
        counts = Counter(
            fault.value for study in studies for record in study.parts[self.name] for fault in record.faults
        )
        several = self.several.lower()
        lines = [{"fault": name, several: count} for name, count in counts.most_common()]
        title = f"Faults of {self.several}"
        return {f"{self.name}_faults": CheckTable(title, pd.DataFrame(lines, columns=["fault", several]))}

    def copies(
        self, cohort: Cohort, cached: CachedCohort | None, scope: Scope, patients: Indices, seed: int
    ) -> Copies | None:
        del cohort, scope, patients, seed
        if cached is None:
            return None
        holders: dict[str, list[int]] = defaultdict(list)
        for row, study in enumerate(cached.studies):
            for record in study.parts[self.name]:
                holders[record.digest].append(row)
        return Copies(list(holders.values()), np.zeros((0, 2), np.int64), "")

    def subgroups(self, studies: Sequence[Study], variables: VariableTable) -> Mapping[str, Names]:
        del variables
        records = [study.parts[self.name] for study in studies]
        sources = [own[0].source if own else f"no {self.one}" for own in records]
        return {f"{self.one} file": np.array(sources)}
