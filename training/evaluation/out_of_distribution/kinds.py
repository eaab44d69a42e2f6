"""Inputs out of distribution by kind: an ordinary study with the records of one modality changed.

Every modality that has such kinds names them under the entry point group ``consilium.out_of_distribution``; those of
the built-in ones are in `odd_images`, `odd_texts` and `odd_values`.
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
from consilium.system.installed import by_name, load, of_entry_points
from training.cohorts.cohort import StudyRecord

GROUP = "consilium.out_of_distribution"
_BUILT_IN = tuple(f"{__package__}.{module}:KINDS" for module in ("odd_images", "odd_texts", "odd_values"))


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
        Its images have a shape and no pixels.
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
        Case and generator → the changed study. A changed image has pixels.
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
    every = (kind for group in [*map(load, _BUILT_IN), *of_entry_points(GROUP)] for kind in group)
    found: dict[str, Kind] = by_name(every, "kinds of inputs out of distribution have the same name:")
    place = modality_names().index
    return tuple(sorted(found.values(), key=lambda kind: (place(kind.modality), not kind.far)))
