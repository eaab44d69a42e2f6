"""What pretrained encoders can do, measured on studies that they have not learned from.

The same tables for a pretraining that has just ended and for encoders from the registry.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from consilium.artifacts.pretrained_encoders import load_encoders, resolve_encoders
from consilium.configuration.pretraining_stages import recipe_of_stages
from consilium.configuration.recipe import Recipe
from consilium.modalities.registry import find_modality
from consilium.network.aligned_encoders import AlignedEncoders
from consilium.preprocessing.collate import Preprocessing
from consilium.system.threads import limit_threads
from training.cohorts import cohort_kind, load_cohort
from training.cohorts.cohort import Cohort, Prompts
from training.cohorts.cohort_kind import Oracle
from training.cohorts.splits import Indices, split_unlabelled
from training.data.cache_folders import file_cache_folder
from training.data.cached_cohort import CachedCohort, cache_cohort
from training.pretraining.embeddings import Embeddings, embed_rows
from training.pretraining.few_shot import few_shot, label_efficiency
from training.pretraining.fit_encoders import stage_preprocessing
from training.pretraining.zero_shot import ask, zero_shot

_log = logging.getLogger(__name__)

ZERO_SHOT, FEW_SHOT, LABELS = "zero_shot", "few_shot", "label_efficiency"
TITLES: Mapping[str, str] = {
    ZERO_SHOT: "Zero-shot",
    FEW_SHOT: "Few-shot, by labelled studies of either class",
    LABELS: "Labelled studies, as they come",
}


@dataclass(frozen=True, slots=True, eq=False)
class Measuring:
    """Encoders and the labelled studies that they are measured on.

    Attributes
    ----------
    recipe : Recipe
        Of the pretraining. Studies are read by its own sections, which read nothing that gives the answer away.
    preprocessing : Preprocessing
        Of all stages: what is asked in words may be put as a report puts it.
    parts : mapping of split to int [n]
    prompts : mapping of finding to Prompts
        None of them: nothing is asked for in words.
    """

    recipe: Recipe
    model: AlignedEncoders
    preprocessing: Preprocessing
    cached: CachedCohort
    parts: Mapping[str, Indices]
    oracle: Oracle | None
    prompts: Mapping[str, Prompts] = field(default_factory=dict)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Tables by name, of `TITLES`; without one that the cohort has no labels or prompts for."""
        cohort, recipe = self.cached.cohort, self.recipe
        if not self._known("test"):
            _log.info("no test study has a known label: nothing is measured by labels")
            return {}
        test = self._embedded("test")
        found: dict[str, pd.DataFrame] = {}
        if self.prompts:
            asked = ask(self.model, self.preprocessing, self.prompts)
            calibration = self._embedded("calibration") if self._known("calibration") else None
            bootstrap = recipe.evaluation.bootstrap
            found[ZERO_SHOT] = zero_shot(
                asked, cohort, test, calibration, self.oracle, bootstrap=bootstrap, seed=recipe.seed
            )
        if self._known("train"):
            train = self._embedded("train")
            found[FEW_SHOT] = few_shot(cohort, train, test, self.oracle, recipe.seed)
            found[LABELS] = label_efficiency(cohort, train, test, self.oracle, recipe.seed)
        return {name: table for name, table in found.items() if not table.empty}

    def _known(self, part: str) -> bool:
        """The split has studies with a known label."""
        return bool(np.isfinite(self.cached.cohort.labels[self.parts[part]]).any())

    def _embedded(self, part: str) -> Embeddings:
        reading = stage_preprocessing(self.preprocessing, self.recipe, self.cached)
        return embed_rows(self.model, reading, self.cached, self.parts[part])


def measure_encoders(
    source: str, cohort_root: Path, *, prompts: Mapping[str, Prompts] | None = None
) -> dict[str, pd.DataFrame]:
    """`Measuring.tables` of the encoders `source` on the cohort in `cohort_root`.

    Parameters
    ----------
    source : str
        Folder of encoders, ``models:/name@alias`` or ``models:/name/version``.
    prompts : mapping of finding to Prompts, or None
        In place of the cohort's own.

    Raises
    ------
    InputError
        The cohort cannot be read with these encoders.
    """
    encoders = load_encoders(resolve_encoders(source).folder)
    recipe = encoders.recipe
    limit_threads(recipe.training.threads)
    cohort = read_cohort(recipe, cohort_root)
    cached = cache_cohort(cohort, recipe_of_stages(recipe), file_cache_folder())
    oracle = cohort_kind(recipe.cohort.kind).load_oracle(cohort_root)
    asked = usable_prompts(cohort, recipe) if prompts is None else prompts
    for name in asked:
        cohort.findings.index(name, "prompts")
    parts = split_unlabelled(cohort, recipe.splits.model_dump(), recipe.seed)
    return Measuring(recipe, encoders.model, encoders.preprocessing, cached, parts, oracle, asked).tables()


def read_cohort(recipe: Recipe, root: Path) -> Cohort:
    """The cohort in `root`, as `recipe` has it read."""
    chosen = recipe.cohort
    return load_cohort(chosen.kind, root, chosen.options, mask_notes=recipe.masks_identifiers)


def usable_prompts(cohort: Cohort, recipe: Recipe) -> Mapping[str, Prompts]:
    """The cohort's prompts; none where no modality of `recipe` holds words."""
    words = any(find_modality(name).sentences for name in recipe.modalities)
    return cohort.prompts if words else {}
