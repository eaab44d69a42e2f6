"""What the ML engineer does: the cohort that grows, trainings on it, gates, and the plan of a rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from consilium.cli.loop.arrivals import slice_cohort
from consilium.cli.loop.year import Year

if TYPE_CHECKING:
    from service.rollout.rollout_plan import RolloutPlan
    from training.cohorts.cohort import Cohort
    from training.lifecycle.gate_results import GateReport
    from training.pipeline.train import TrainedModel

RECIPE = "phantom-loop"
GATES = {
    "alpha": 0.05,
    "looks": 5,
    "bootstrap": 400,
    "champion": {"margin": 0.15},
    "calibration": {"ece_above_chance": 0.08, "slope": [0.3, 3.0]},
    "size": {},
    "licences": {},
    "serving": {},
}
"""Wide: of the hundred and some test studies of the demo, narrow margins could not be shown to be kept."""
PLAN = {
    "stages": [
        {"role": "shadow", "hours": 120, "answers": 10},
        {"role": "canary", "share": 0.3, "hours": 240, "answers": 10},
    ],
    "stop": {"agreement": 0.2, "referral": 0.5, "latency": 3.0},
}
"""The times of an answer are the processor's, so that other work on the machine stops nobody."""


@dataclass(slots=True)
class Workshop:
    """Trainings of the year, each on the newest version of the cohort.

    Attributes
    ----------
    folder : Path
        For the cohort's versions and what they are made of.
    """

    folder: Path
    year: Year
    trained: int = 0

    @property
    def store(self) -> Path:
        return self.folder / "cohort"

    def begin(self, cohort: Cohort, studies: Sequence[str]) -> None:
        """The first version of the cohort."""
        from training.lifecycle.cohorts import cohort_store

        cohort_store.freeze(self.store, self._sliced("start", cohort, studies), seed=self.year.seed, why="the start")

    def grow(self, read: Mapping[str, Sequence[str]], cohorts: Mapping[str, Cohort], why: str) -> int:
        """Add the studies `read` of each of `cohorts`; how many the cohort has now."""
        from training.cohorts.versions.version_record import cohort_folder, read_version
        from training.lifecycle.cohorts import cohort_store

        folders = [self._sliced(f"{why} {name}", cohorts[name], studies) for name, studies in read.items() if studies]
        cohort_store.add(self.store, folders, seed=self.year.seed, why=why)
        version = read_version(cohort_folder(self.store))
        return 0 if version is None else version.studies

    def train(self, *, slipped: bool = False, promote: bool = False) -> TrainedModel:
        """A version of the model, registered; with `slipped`, each study has the labels of another."""
        from training.pipeline.train import train
        from training.recipes import find_recipe

        recipe = find_recipe(RECIPE, [f"seed={self.year.seed + self.trained}", *self.year.settings])
        self.trained += 1
        root = self._slipped() if slipped else self.store
        return train(recipe, root, promote=promote, progress=False)

    def _slipped(self) -> Path:
        from training.cohorts import load_cohort
        from training.cohorts.versions.version_record import cohort_folder

        cohort = load_cohort("manifest", cohort_folder(self.store))
        out = self.folder / f"slipped-{self.trained}"
        slice_cohort(cohort, out, {record.study_id for record in cohort.records}, slipped=True)
        return out

    def _sliced(self, name: str, cohort: Cohort, studies: Sequence[str]) -> Path:
        out = self.folder / "arrived" / name.replace(" ", "-")
        slice_cohort(cohort, out, set(studies))
        return out


def pass_gates(uri: str, why: str) -> GateReport:
    """Measure a version by `GATES`."""
    from training.lifecycle.gate import gate
    from training.lifecycle.gate_file import Gates

    return gate(uri, Gates.model_validate(GATES), why=why)


def rollout_plan() -> RolloutPlan:
    from service.rollout.rollout_plan import read_plan

    return read_plan(PLAN)
