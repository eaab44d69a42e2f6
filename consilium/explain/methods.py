"""The methods of explanation that the installed modalities declare.

A modality names a `ModalityExplanation` by reference in its declaration. A new method is one function and one line
there. `Method.fast` says whether the level ``fast`` can afford it: its cost is one backward pass for each finding. The
others take many passes through an encoder and are for ``thorough``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
from torch import nn

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import InputError
from consilium.explain.case import Case, Floats
from consilium.modalities.registry import find_modality, in_order
from consilium.network.diagnosis_model import DiagnosisModel
from consilium.preprocessing.batch import Prepared
from consilium.preprocessing.collate import Preprocessing
from consilium.system.installed import load

FAST, THOROUGH = LEVELS = ("fast", "thorough")


def _nothing(model: DiagnosisModel) -> list[nn.Module]:
    del model
    return []


def _suits_all(preprocessing: Preprocessing) -> str:
    del preprocessing
    return ""


def _themselves(case: Case, weights: npt.NDArray) -> npt.NDArray:
    del case
    return weights


@dataclass(frozen=True, slots=True)
class Method:
    """One way of weighing what a study has of one modality.

    Attributes
    ----------
    weigh : callable
        (case, positions of P findings) → weights in log-odds, [P, ...]: what follows is the modality's own, such as a
        map of each image or a weight of each word.
    fast : bool
        The level ``fast`` can afford it.
    watches : callable
        The modules of a model whose output it reads; they must be watched when the case is made.
    lacks : callable
        What a model of a fitted preprocessing lacks that the method reads, as an error states it; empty where nothing.
    """

    name: str
    weigh: Callable[[Case, Sequence[int]], npt.NDArray]
    fast: bool = False
    watches: Callable[[DiagnosisModel], list[nn.Module]] = _nothing
    lacks: Callable[[Preprocessing], str] = _suits_all

    def suits(self, preprocessing: Preprocessing) -> bool:
        """Whether a model of `preprocessing`, which reads the modality, has what this method reads."""
        return not self.lacks(preprocessing)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModalityExplanation:
    """How one modality is explained.

    Attributes
    ----------
    methods : tuple of Method
    defaults : mapping of level to method name
        Used where neither the recipe nor the model's evaluation names a method.
    units : callable
        What can be weighed of a study, such as its words; empty where there is nothing.
    attributions : callable
        (case, weights of one finding) → attributions in the coordinates of what was sent.
    log_odds_keeping : callable
        (case, bool [N, U]) → calibrated log-odds [N, F] of copies of the study that keep only some of the U places that
        deletion and insertion take away: units, or pixels where a weight is a map.
    places : callable
        (case, weights of one finding) → the weight of each of those places, of any shape with U entries.
    """

    methods: tuple[Method, ...]
    defaults: Mapping[str, str]
    units: Callable[[Prepared, Preprocessing], Sequence[Any]]
    attributions: Callable[[Case, npt.NDArray], tuple[Any, ...]]
    log_odds_keeping: Callable[[Case, npt.NDArray], Floats]
    places: Callable[[Case, npt.NDArray], npt.NDArray] = _themselves

    def method(self, name: str) -> Method | None:
        """The method called `name`."""
        return next((method for method in self.methods if method.name == name), None)


def explanation_of(modality: str) -> ModalityExplanation | None:
    """How `modality` is explained; None where it declares no explanation."""
    reference = find_modality(modality).explanation
    if not reference:
        return None
    found: ModalityExplanation = load(reference)
    return found


def explanations(modalities: Iterable[str]) -> dict[str, ModalityExplanation]:
    """Those of `modalities` that declare one, in order."""
    found = {modality: explanation_of(modality) for modality in in_order(modalities)}
    return {modality: one for modality, one in found.items() if one is not None}


def find_method(preprocessing: Preprocessing, modality: str, name: str) -> Method:
    """The method of that name.

    Raises
    ------
    InputError
        Where there is no such modality or method, or a model of `preprocessing` lacks what the method reads.
    """
    field = f"explain.{find_modality(modality, 'explain').name}"
    explanation = explanation_of(modality)
    if explanation is None:
        raise InputError(field, name, f"must be left out: {modality} has no methods of explanation")
    method = explanation.method(name)
    if method is None:
        raise InputError(field, name, f"must be one of {', '.join(one.name for one in explanation.methods)}")
    if not method.suits(preprocessing):
        raise InputError(field, name, method.lacks(preprocessing))
    return method


def default_methods(modalities: Iterable[str], level: str) -> dict[str, str]:
    """The declared method of each of `modalities` at `level`."""
    return {modality: one.defaults[level] for modality, one in explanations(modalities).items()}


def chosen_methods(
    recipe: Recipe, measured: Mapping[str, Mapping[str, str]] | None = None, level: str = FAST
) -> dict[str, str]:
    """The method of each modality: what the recipe names, else what was measured best at `level`, else the default.

    Parameters
    ----------
    measured : mapping of level to mapping of modality to method, optional
        What `training.evaluation.faithfulness.best_methods` found for this model.

    Raises
    ------
    InputError
        For an unknown level.
    """
    if level not in LEVELS:
        raise InputError("level", level, f"must be one of {', '.join(LEVELS)}")
    defaults = default_methods(recipe.modalities, level)
    found = defaults | dict((measured or {}).get(level, {})) | dict(recipe.explain)
    return {modality: found[modality] for modality in defaults}
