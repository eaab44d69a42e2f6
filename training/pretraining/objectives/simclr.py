"""SimCLR: two augmented views of one record are found among those of the batch (Chen et al., ICML 2020)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import InputError
from consilium.preprocessing.collate import Preprocessing
from training.data.augmentation import augmentations
from training.pretraining.objectives.clip import contrast, scale
from training.pretraining.objectives.pretraining_objective import PretrainingObjective, PretrainingStep, Summed

_SCALE = 10.0


class SimClr(PretrainingObjective):
    """Of every modality that declares an augmentation which its section has not switched off.

    Views are compared through a head of their own, as in the paper; negatives are the other side's views alone.
    """

    def __init__(self, modalities: tuple[str, ...], width: int) -> None:
        super().__init__()
        self.modalities = modalities
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, width))
                for name in modalities
            }
        )
        self.log_scale = nn.Parameter(torch.tensor(math.log(_SCALE)))

    @classmethod
    def build(cls, recipe: Recipe, preprocessing: Preprocessing) -> Self:
        able = tuple(augmentations(preprocessing))
        if not able:
            rule = f"needs a modality with an augmentation; the recipe has {', '.join(recipe.modalities)}"
            raise InputError("pretraining.objectives", "simclr", rule)
        return cls(able, recipe.fusion.width)

    def forward(self, step: PretrainingStep) -> Mapping[str, Summed]:
        found = {}
        for name in self.modalities:
            rows = step.present[name]
            if int(rows.sum()) > 1:
                one, other = (self._view(step, name)[rows] for _ in range(2))
                found[name] = contrast(one @ other.T * scale(self.log_scale))
        return found

    def _view(self, step: PretrainingStep, name: str) -> Tensor:
        summary = torch.nan_to_num(step.views(name).summary())
        return F.normalize(self.heads[name](summary).float(), dim=1)
