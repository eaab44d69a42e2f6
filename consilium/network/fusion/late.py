"""Late fusion: a product of experts (Hinton 2002).

Each modality's state enters the joint state by its own linear map and they are added. The head is linear, so the fused
log-odds are the sum of one term per modality that is present: each expert multiplies the odds, none can see another.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from consilium.configuration.recipe import FusionRecipe
from consilium.modalities.masked_attention import AttentionPool
from consilium.modalities.tokens import Tokens
from consilium.network.fusion.fusion import Fusion


class LateFusion(Fusion):
    """Joint state as a sum over the modalities that are present."""

    def __init__(self, recipe: FusionRecipe, modalities: tuple[str, ...], findings: int) -> None:
        super().__init__(recipe, modalities, findings)
        self.pools = nn.ModuleDict({m: AttentionPool(recipe.width, recipe.heads) for m in modalities})
        self.experts = nn.ModuleDict({m: self._expert(recipe) for m in modalities})

    @staticmethod
    def _expert(recipe: FusionRecipe) -> nn.Module:
        hidden = nn.Sequential(nn.Linear(recipe.width, 2 * recipe.width), nn.GELU(), nn.Dropout(recipe.dropout))
        return nn.Sequential(hidden, nn.Linear(2 * recipe.width, recipe.width))

    def forward(self, tokens: dict[str, Tokens]) -> Tensor:
        """`tokens` of every modality of the recipe → [B, D]."""
        terms = []
        for modality in self.modalities:
            own = tokens[modality]
            term = self.experts[modality](self.pools[modality](own.values, own.mask))
            terms.append(term * own.present[:, None].to(term.dtype))
        return torch.stack(terms).sum(dim=0)
