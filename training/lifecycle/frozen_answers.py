"""What a model answers to the test studies of its training: made anew from its artifact, beside what was kept then.

Figures that a training has noted may be of other weights than those that were registered; what a gate decides by is
therefore computed from the artifact. Labels and groups are those of then: a test set is frozen with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from consilium.artifacts.artifact import Artifact
from consilium.configuration.recipe import CohortRecipe
from consilium.domain.errors import InputError, TrainingError
from training.cohorts import load_cohort
from training.data.cache_folders import file_cache_folder
from training.data.cached_cohort import cache_cohort
from training.data.cohort_places import remembered_place
from training.evaluation.predict import predict
from training.lifecycle.gate_results import GateResult
from training.pipeline.compare_models import ANSWERS, Answers, common_studies
from training.runtime.tracking import download_evaluation, patients_of_run

REPRODUCED = "answers of the artifact"
TOLERANCE = 1e-3
"""By how much a probability may differ from what the training kept: another processor rounds otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class Rival:
    """One of the two models.

    Attributes
    ----------
    uri : str
        ``models:/NAME/VERSION``.
    """

    name: str
    version: str
    uri: str
    artifact: Artifact

    @property
    def out_of_fold(self) -> bool:
        """Its test answers are of other models, one a fold; the artifact has learned from all studies."""
        return bool(self.artifact.recipe.evaluation.protocol != "split")

    def kept(self) -> Answers:
        """Its answers to its own test studies, as its training kept them."""
        return Answers.load(download_evaluation(self.artifact.details["run_id"], ANSWERS))

    def learned_from(self) -> set[str]:
        """Pseudonyms of the patients that its training did not hold out."""
        parts = patients_of_run(self.artifact.details["run_id"])
        held_out = None if self.out_of_fold else "test"
        return {patient for patient, part in parts if part != held_out}


@dataclass(slots=True, eq=False)
class FrozenAnswers:
    """Answers to test studies, each model's computed once.

    Attributes
    ----------
    root : Path or None
        Folder with the studies.
    cohort : CohortRecipe
        Kind and task of it.
    deviations : dict of str to float
        By URI of each model that was asked, the largest difference from what its training kept.
    """

    root: Path | None
    cohort: CohortRecipe
    deviations: dict[str, float] = field(default_factory=dict)
    _made: dict[str, Answers] = field(default_factory=dict)

    @classmethod
    def beside(cls, one: Rival, given: Path | None) -> FrozenAnswers:
        """In the folder `given`, else in the one that `one` was trained on, as far as this machine knows it."""
        root = given or remembered_place(one.artifact.details["cohort"]["digest"])
        return cls(root, one.artifact.recipe.cohort)

    def of(self, one: Rival) -> Answers:
        """The answers of `one` to its own test studies; the out-of-fold ones of its training where it has no others.

        Raises
        ------
        TrainingError
            Its training kept none, the studies are not on this machine, or it learned from all that are.
        InputError, CohortError
            The cohort cannot be read by it.
        """
        if one.uri not in self._made:
            kept = one.kept()
            self._made[one.uri] = kept if one.out_of_fold else self._anew(one, kept)
        return self._made[one.uri]

    def _anew(self, one: Rival, kept: Answers) -> Answers:
        if self.root is None:
            rule = "the cohort of its training is not on this machine: name a folder that holds its test studies"
            raise TrainingError(f"{rule} (--tested-on)")
        artifact, recipe = one.artifact, one.artifact.recipe
        wanted = set(kept.study_ids[~np.isin(kept.patient_ids, sorted(one.learned_from()))].tolist())
        masks = recipe.masks_identifiers
        found = load_cohort(self.cohort.kind, self.root, self.cohort.options, mask_notes=masks)
        if found.findings.names != artifact.findings.names:
            rule = f"must be the model's: {', '.join(artifact.findings.names)}"
            raise InputError("cohort.findings", ", ".join(found.findings.names), rule)
        records = tuple(record for record in found.records if record.study_id in wanted)
        if not records:
            raise TrainingError(f"the cohort has none of the test studies of {one.uri}")
        part = replace(found, records=records).answering(artifact.findings.targets)
        cached = cache_cohort(part, recipe, file_cache_folder())
        seen = predict(artifact.model, artifact.preprocessing, cached, np.arange(len(part)), recipe)
        probabilities = seen.as_present(seen.probabilities(artifact.calibration))
        fresh = Answers(kept.findings, seen.study_ids, seen.patient_ids, seen.labels, probabilities)
        then, now = common_studies(kept, fresh)
        self.deviations[one.uri] = largest_difference(then, now)
        return replace(then, probabilities=now.probabilities)

    def result(self) -> GateResult:
        """Whether the artifacts of all that were asked answer as their trainings kept it."""
        demanded = f"what each training kept of its test studies, within {TOLERANCE:g}"
        if not self.deviations:
            return GateResult.not_applicable(REPRODUCED, "no answer was made anew", demanded)
        worst = max(self.deviations.values())
        names = ", ".join(f"{uri} {value:.1e}" for uri, value in self.deviations.items())
        return GateResult.of(REPRODUCED, worst <= TOLERANCE, names, demanded, {"largest_difference": worst})


def largest_difference(then: Answers, now: Answers) -> float:
    """Of the probabilities of the same studies; infinite where only one of the two answers."""
    if not np.array_equal(np.isnan(then.probabilities), np.isnan(now.probabilities)):
        return float("inf")
    return float(np.nanmax(np.abs(then.probabilities - now.probabilities), initial=0.0))
