"""ECGs, where a model is trained."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from consilium.configuration.modality_sections import Scope
from consilium.configuration.recipe import Recipe
from consilium.domain.study import Study
from consilium.domain.variables import VariableTable
from training.cohorts.cohort import Cohort
from training.data.cached_cohort import CachedCohort
from training.training_side import CheckTable, Copies, Indices, Names, TrainingSide

NAME = "ecg"


class EcgTraining(TrainingSide):
    """Copies by their bytes, groups by the kind of file that they came in."""

    def check_tables(self, cohort: Cohort, studies: Sequence[Study]) -> Mapping[str, CheckTable]:
        del cohort
        counts = Counter(fault.value for study in studies for ecg in study.parts[NAME] for fault in ecg.faults)
        lines = [{"fault": name, "ecgs": count} for name, count in counts.most_common()]
        return {"ecg_faults": CheckTable("Faults of ECGs", pd.DataFrame(lines, columns=["fault", "ecgs"]))}

    def copies(
        self, cohort: Cohort, cached: CachedCohort | None, scope: Scope, patients: Indices, seed: int
    ) -> Copies | None:
        del cohort, scope, patients, seed
        if cached is None:
            return None
        holders: dict[str, list[int]] = defaultdict(list)
        for row, study in enumerate(cached.studies):
            for ecg in study.parts[NAME]:
                holders[ecg.digest].append(row)
        return Copies(list(holders.values()), np.zeros((0, 2), np.int64), "")

    def subgroups(self, studies: Sequence[Study], variables: VariableTable) -> Mapping[str, Names]:
        del variables
        sources = [study.parts[NAME][0].source if study.parts[NAME] else "no ECG" for study in studies]
        return {"ECG file": np.array(sources)}

    def card_sentences(self, recipe: Recipe) -> Sequence[str]:
        section = recipe.modalities[NAME]
        rule = {
            "scaled": "are read at a common size, without their voltages, and the study is referred",
            "microvolts": "are read by their integers as microvolts",
        }
        wrong = f"ECGs whose gains are wrong {rule[section.wrong_gains]}."
        return (f"Of an ECG it reads the middle {section.seconds} s. {wrong}",)
