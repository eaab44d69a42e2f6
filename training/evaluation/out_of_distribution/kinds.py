"""Inputs out of distribution by kind: an ordinary study with the records of one modality changed.

A modality that has such kinds brings them in `training.training_side.TrainingSide.out_of_distribution_kinds`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np

from consilium.domain.study import Study
from consilium.domain.variables import BUILT_IN, VariableTable
from consilium.modalities.registry import modality_names
from consilium.system.installed import by_name
from training.cohorts.cohort import StudyRecord
from training.training_side import training_sides


class Renderer(Protocol):
    """Draws a cohort's studies anew, where the cohort's kind offers that."""

    def render(self, modality: str, study_id: str, **circumstances: Any) -> Any:
        """One modality of a study of the same patient and evidence, under other circumstances."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """An ordinary study, to be changed.

    Attributes
    ----------
    record : StudyRecord
        Where its files lie.
    study : Study
        What was read of its files is without what the cache holds.
    renderer : Renderer or None
        Of the study's cohort, where its kind has one.
    variables : VariableTable
        Of its observations.
    """

    record: StudyRecord
    study: Study
    renderer: Renderer | None
    variables: VariableTable = BUILT_IN


Change = Callable[[Case, np.random.Generator], Study]


@dataclass(frozen=True, slots=True)
class Kind:
    """One way of being out of distribution.

    Attributes
    ----------
    name : str
    modality : str
        What of the study is changed; the rest stays as it was.
    far : bool
        Nothing that the model could answer for, against what is merely unusual.
    change : callable
        Case and generator → the changed study, whose changed records are whole.
    rendered : bool
        Needs the cohort's renderer.
    """

    name: str
    modality: str
    far: bool
    change: Change
    rendered: bool = False


@cache
def all_kinds() -> tuple[Kind, ...]:
    """Every kind by modality, in the order of the modalities, far ones before near ones.

    Raises
    ------
    ValueError
        Where two kinds have the same name.
    """
    every = (kind for side in training_sides() for kind in side.out_of_distribution_kinds())
    found: dict[str, Kind] = by_name(every, "kinds of inputs out of distribution have the same name:")
    place = modality_names().index
    return tuple(sorted(found.values(), key=lambda kind: (place(kind.modality), not kind.far)))
