"""Local alignment: tokens of one modality look for theirs among the other's (Huang et al., "GLoRIA", ICCV 2021)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consilium.configuration.recipe import Recipe
from consilium.modalities.tokens import Tokens
from training.pretraining.objectives.clip import contrast, scale
from training.pretraining.objectives.pretraining_objective import Pair, PairObjective, PretrainingStep, Summed

_SHARPNESS = 4.0
"""Of the attention over the other side's tokens."""
_SCALE = 10.0


class LocalAlignment(PairObjective):
    """The similarity of two records: the mean, over tokens of the second, of that to what each finds in the first.

    In the paper these are words and image regions; here the first modality of a pair is looked through by the second.
    """

    def __init__(self, pairs: tuple[Pair, ...], recipe: Recipe) -> None:
        super().__init__(pairs, recipe)
        named = sorted({name for pair in pairs for name in pair})
        fusion, width = recipe.fusion.width, recipe.pretraining.width
        self.projections = nn.ModuleDict({name: nn.Linear(fusion, width) for name in named})
        self.log_scale = nn.Parameter(torch.tensor(math.log(_SCALE)))

    def compare(self, step: PretrainingStep, pair: Pair, rows: Tensor) -> Summed:
        sides = [self._local(name, step.tokens[name], rows) for name in pair]
        return contrast(_similarities(*sides) * scale(self.log_scale))

    def _local(self, name: str, tokens: Tokens, rows: Tensor) -> tuple[Tensor, Tensor]:
        return F.normalize(self.projections[name](tokens.values[rows]).float(), dim=-1), tokens.mask[rows]


def _similarities(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """Of each record of `one` (tokens [n, T, E] and mask) with each of `other`, [n, n]."""
    (places, there), (asking, asked) = one, other
    each = torch.einsum("ite,jse->ijst", places, asking)
    attention = (_SHARPNESS * each).masked_fill(~there[:, None, None, :], -torch.inf).softmax(dim=-1)
    found = torch.einsum("ijst,ite->ijse", attention, places)
    alike = (F.normalize(found, dim=-1) * asking[None]).sum(dim=-1)
    weights = asked.to(alike.dtype)
    return (alike * weights[None]).sum(dim=-1) / weights.sum(dim=-1)[None]
