"""Concatenation, the reference: pool each modality, concatenate, one MLP."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from consilium.configuration.recipe import FusionRecipe
from consilium.modalities.masked_attention import AttentionPool
from consilium.modalities.tokens import Tokens
from consilium.network.fusion.fusion import Fusion


class ConcatFusion(Fusion):
    """Joint state from the modalities' pooled states side by side; an absent one is a learned vector."""

    def __init__(self, recipe: FusionRecipe, modalities: tuple[str, ...], findings: int) -> None:
        super().__init__(recipe, modalities, findings)
        self.pools = nn.ModuleDict({m: AttentionPool(recipe.width, recipe.heads) for m in modalities})
        self.absent = nn.Parameter(torch.randn(len(modalities), recipe.width) * 0.02)
        layers: list[nn.Module] = []
        width = recipe.width * len(modalities)
        for _ in range(recipe.depth):
            layers += [nn.Linear(width, 2 * recipe.width), nn.GELU(), nn.Dropout(recipe.dropout)]
            width = 2 * recipe.width
        self.mlp = nn.Sequential(*layers, nn.Linear(width, recipe.width), nn.LayerNorm(recipe.width))

    def forward(self, tokens: dict[str, Tokens]) -> Tensor:
        """`tokens` of every modality of the recipe → [B, D]."""
        states = []
        for position, modality in enumerate(self.modalities):
            own = tokens[modality]
            pooled = self.pools[modality](own.values, own.mask)
            states.append(torch.where(own.present[:, None], pooled, self.absent[position].to(pooled.dtype)))
        return self.mlp(torch.cat(states, dim=-1))
