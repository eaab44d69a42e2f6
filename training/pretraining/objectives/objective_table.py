"""Every objective by name, and those of one stage put together."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor, nn

from consilium.configuration.pretraining_recipe import OF_PAIRS, OF_VIEWS, StageRecipe
from consilium.configuration.recipe import Recipe
from consilium.domain.errors import InputError
from consilium.preprocessing.collate import Preprocessing
from training.pretraining.objectives.clip import Clip
from training.pretraining.objectives.local_alignment import LocalAlignment
from training.pretraining.objectives.pretraining_objective import (
    Pair,
    PairObjective,
    PretrainingObjective,
    PretrainingStep,
)
from training.pretraining.objectives.siglip import SigLip
from training.pretraining.objectives.simclr import SimClr
from training.pretraining.objectives.vicreg import VicReg
from training.pretraining.objectives.within_modality import declared

PAIR_OBJECTIVES: Mapping[str, type[PairObjective]] = dict(
    zip(OF_PAIRS, (Clip, SigLip, VicReg, LocalAlignment), strict=True)
)
"""Of two modalities, by the key of their weight. A new one is a module here and a name in `OF_PAIRS`."""
VIEW_OBJECTIVES: Mapping[str, type[SimClr]] = dict(zip(OF_VIEWS, (SimClr,), strict=True))
"""Of two views of one modality, likewise."""


class WeightedObjectives(nn.Module):
    """The objectives of one stage and their weights.

    Parameters
    ----------
    objectives : mapping of str to PretrainingObjective
    weights : mapping of str to float
        Of the same names.
    """

    def __init__(self, objectives: Mapping[str, PretrainingObjective], weights: Mapping[str, float]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(dict(objectives))
        self.weights = dict(weights)

    def forward(self, step: PretrainingStep) -> tuple[Tensor, dict[str, Tensor]]:
        """What is minimised, and each term as a mean, unweighted; 0 where a batch has nothing to learn from."""
        terms: dict[str, Tensor] = {}
        total = torch.zeros((), device=next(self.parameters()).device)
        for name, objective in self.parts.items():
            for of, (loss, count) in objective(step).items():
                mean = loss / count.clamp(min=1)
                terms[f"{name}_{of}"] = mean
                total = total + self.weights[name] * mean
        return total, terms

    @property
    def compares_only(self) -> bool:
        """No objective learns from a study that has a single modality."""
        return all(isinstance(objective, PairObjective) for objective in self.parts.values())

    @property
    def compares(self) -> bool:
        """An objective reads the tokens of more than one modality at once."""
        return any(isinstance(objective, PairObjective) for objective in self.parts.values())


def build_objectives(
    recipe: Recipe, stage: StageRecipe, preprocessing: Preprocessing, pairs: tuple[Pair, ...]
) -> WeightedObjectives:
    """The objectives of `stage`, in the order of their names.

    Raises
    ------
    InputError
        There is none, or the recipe lacks what one reads.
    """
    weights = recipe.pretraining.weights(stage)
    if not weights:
        raise InputError("pretraining.objectives", {}, "must give at least one objective a weight above 0")
    return WeightedObjectives({name: _built(name, recipe, preprocessing, pairs) for name in sorted(weights)}, weights)


def _built(name: str, recipe: Recipe, preprocessing: Preprocessing, pairs: tuple[Pair, ...]) -> PretrainingObjective:
    if name in PAIR_OBJECTIVES:
        if not pairs:
            rule = f"compares two modalities; the recipe has {', '.join(recipe.modalities)} alone"
            raise InputError("pretraining.objectives", name, rule)
        return PAIR_OBJECTIVES[name](pairs, recipe)
    if name in VIEW_OBJECTIVES:
        return VIEW_OBJECTIVES[name].build(recipe, preprocessing)
    return declared(name, recipe, preprocessing)


def compared_pairs(recipe: Recipe, stage: StageRecipe) -> tuple[Pair, ...]:
    """The pairs of modalities that `stage` compares: those named, or all of the recipe."""
    named = recipe.pretraining.pairs if stage.pairs is None else stage.pairs
    return named or tuple(combinations(recipe.modalities, 2))
