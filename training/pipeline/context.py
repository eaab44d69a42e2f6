"""What every stage of one training shares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from consilium.configuration.recipe import Recipe
from training.cohorts.cohort import Cohort
from training.cohorts.cohort_kind import Oracle
from training.data.cached_cohort import CachedCohort
from training.fitting.fit import WarmStart
from training.runtime.tracking import TrackedRun


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """One training under way.

    Attributes
    ----------
    oracle : Oracle or None
        Of a cohort that knows its best possible answers.
    folder : Path
        Where this training keeps what it needs to be resumed.
    run : TrackedRun
    progress : bool
        Draw bars; otherwise log lines.
    start : WarmStart or None
        What the model's weights begin as.
    """

    recipe: Recipe
    cached: CachedCohort
    oracle: Oracle | None
    folder: Path
    run: TrackedRun
    progress: bool
    start: WarmStart | None = None

    @property
    def cohort(self) -> Cohort:
        return self.cached.cohort
