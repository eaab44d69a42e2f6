"""TrainingSide: what training, audit, evaluation and model card know of one modality, beside its declaration.

Each modality derives its own and names it in `consilium.modalities.modality.Modality.training`; one that does not is
trained on all the same, and goes without what only its own side could tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.configuration.modality_sections import Scope
from consilium.configuration.recipe import Recipe
from consilium.domain.study import Study
from consilium.domain.variables import VariableTable
from consilium.modalities.converter import Array
from consilium.modalities.registry import modalities
from consilium.system.installed import load
from training.cohorts.cohort import Cohort
from training.data.cached_cohort import CachedCohort

Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]
Names = npt.NDArray[np.str_]
Row = dict[str, object]

_NOISE = 0.05
"""Standard deviation of the noise on numbers, in standard deviations of the study's own."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What one baseline reads: features or texts [N, ...], which studies have them, and a new classifier of them."""

    inputs: npt.NDArray[Any]
    present: Bools
    classifier: Callable[[], Any]


@dataclass(frozen=True, slots=True, eq=False)
class Readable:
    """What a baseline may read of N studies.

    Attributes
    ----------
    cached : CachedCohort
        For what is read of files.
    studies : sequence of Study
        As a model would see them, without what is read of files.
    seed : int
    """

    cached: CachedCohort
    studies: Sequence[Study]
    seed: int


@dataclass(frozen=True, slots=True)
class Baseline:
    """A simple method that reads one modality.

    Attributes
    ----------
    averaged : bool
        Part of the average of several baselines.
    """

    name: str
    source: Callable[[Readable], Source]
    averaged: bool


@dataclass(frozen=True, slots=True, eq=False)
class Copies:
    """Records that stand in a cohort more than once.

    Attributes
    ----------
    holders : sequence of sequences of int
        Rows of the cohort that hold each distinct record.
    pairs : int64 [P, 2]
        Positions in `holders` of records that are nearly the same.
    near : str
        From what on two are nearly the same: ``Jaccard index of at least 0.90``.
    """

    holders: Sequence[Sequence[int]]
    pairs: Indices
    near: str


@dataclass(frozen=True, slots=True, eq=False)
class CheckTable:
    """A table of a cohort's check.

    Attributes
    ----------
    title : str
        Above it on a terminal; a table without a row is not shown there.
    """

    title: str
    frame: pd.DataFrame


class TrainingSide:
    """What is known of a modality where a model is trained. The defaults suit any modality.

    Parameters
    ----------
    name : str
        Of the modality.

    Attributes
    ----------
    origin_groups : mapping of str to str
        Groups of the features that `origins` gives, and what each is called in a sentence: ``the device``.
    ambiguous_groups : tuple of str
        Those of them that may carry medicine, too.
    unit_shape : tuple of int
        Shape of the weight of one explained unit, where explanations are maps.
    """

    origin_groups: ClassVar[Mapping[str, str]] = MappingProxyType({})
    ambiguous_groups: ClassVar[tuple[str, ...]] = ()
    unit_shape: ClassVar[tuple[int, ...]] = ()

    def __init__(self, name: str) -> None:
        self.name = name

    # --- check and audit ---------------------------------------------------------------------------------------------

    def check_tables(self, cohort: Cohort, studies: Sequence[Study]) -> Mapping[str, CheckTable]:
        """What a cohort's check counts, by name; `studies` are the cohort's, with what was read of their files."""
        del cohort, studies
        return {}

    def check_problems(self, cohort: Cohort) -> Sequence[str]:
        """What should be mended in a cohort."""
        del cohort
        return ()

    def copies(
        self, cohort: Cohort, cached: CachedCohort | None, scope: Scope, patients: Indices, seed: int
    ) -> Copies | None:
        """Records that stand in `cohort` more than once; None: they are not compared.

        Parameters
        ----------
        cached : CachedCohort or None
            None: files were not read.
        patients : int64 [N]
            Number of the patient of each row.
        """
        del cohort, cached, scope, patients, seed
        return None

    def text(self, study: Study) -> str:
        """The free text in the records of `study`, in which words may give a label away; empty where there is none."""
        del study
        return ""

    def origins(self, cached: CachedCohort, scope: Scope) -> Mapping[str, Sequence[Row]]:
        """Where each study's records came from: features by group, N rows each, of `origin_groups` and the common ones.

        A number or a name by the name of its column; None where it is not known.
        """
        del scope
        return {"missingness": [{self.name: float(len(study.parts[self.name]))} for study in cached.studies]}

    def fields(self, studies: Sequence[Study], variables: VariableTable) -> Mapping[str, Sequence[bool]]:
        """What may be missing within records of this modality, by its name in a table: which studies have it."""
        del studies, variables
        return {}

    # --- evaluation --------------------------------------------------------------------------------------------------

    def subgroups(self, studies: Sequence[Study], variables: VariableTable) -> Mapping[str, Names]:
        """Kinds of groups that studies fall into by their records: the group of each, [N]; ``view``."""
        del studies, variables
        return {}

    def baseline(self) -> Baseline | None:
        """A simple method that reads this modality alone."""
        return None

    def out_of_distribution_kinds(self) -> tuple[Any, ...]:
        """Ways in which records of it are out of distribution: `training.evaluation.out_of_distribution.kinds.Kind`."""
        return ()

    def noisy(self, arrays: Mapping[str, Array], generator: np.random.Generator) -> Mapping[str, Array]:
        """Those of the `arrays` of a `Part` that a little noise changes, with it."""
        found = {}
        for name, array in arrays.items():
            if array.size and np.issubdtype(array.dtype, np.floating):
                noise = generator.normal(0, _NOISE * float(np.nanstd(array)), array.shape)
                found[name] = (array + noise).astype(array.dtype)
        return found

    def disturb_encoder(self, encoder: Any, seed: int) -> None:
        """Change the weights of `encoder` a little, where its inputs are no numbers that noise could change."""
        del encoder, seed

    # --- model card --------------------------------------------------------------------------------------------------

    def scope_in_words(self, section: Any) -> str:
        """Which of its records a model reads, for a sentence: ``of the notes history alone``; empty: all."""
        del section
        return ""

    def card_sentences(self, recipe: Recipe) -> Sequence[str]:
        """What a reader is to know of how the modality is read."""
        del recipe
        return ()

    def variables_in_words(self, section: Any) -> str:
        """What a model reads of each variable, where this modality holds variables."""
        del section
        return ""


@cache
def training_side(name: str) -> TrainingSide:
    """That of the modality called `name`; the defaults where it declares none."""
    modality = modalities().get(name)
    if modality is None or not modality.training:
        return TrainingSide(name)
    side: TrainingSide = load(modality.training)(name)
    return side


def training_sides() -> Iterator[TrainingSide]:
    """Those of all installed modalities, in order."""
    return (training_side(name) for name in modalities())
