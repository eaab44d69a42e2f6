"""Early fusion: one transformer over the tokens of all modalities.

The single stream of ViLT (Kim et al. 2021, section 3.1): every token carries its modality's embedding, a class token
stands in front, and each layer lets every token look at every other one, of whatever modality.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from consilium.configuration.recipe import FusionRecipe
from consilium.modalities.masked_attention import SelfAttentionLayer
from consilium.modalities.tokens import Tokens
from consilium.network.fusion.fusion import Fusion, joined


class EarlyFusion(Fusion):
    """Joint state as what the class token has become."""

    def __init__(self, recipe: FusionRecipe, modalities: tuple[str, ...], findings: int) -> None:
        super().__init__(recipe, modalities, findings)
        self.modality = nn.Parameter(torch.randn(len(modalities), recipe.width) * 0.02)
        self.summary = nn.Parameter(torch.randn(1, 1, recipe.width) * 0.02)
        self.layers = nn.ModuleList(
            SelfAttentionLayer(recipe.width, recipe.heads, recipe.dropout) for _ in range(recipe.depth)
        )
        self.norm = nn.LayerNorm(recipe.width)

    def forward(self, tokens: dict[str, Tokens]) -> Tensor:
        """`tokens` of every modality of the recipe → [B, D]."""
        # Section 3.1, equation 1: the class token, then the tokens, each with its modality's embedding.
        values, mask = joined([tokens[modality] for modality in self.modalities], self.modality)
        values = torch.cat([self.summary.expand(len(values), -1, -1), values], dim=1)
        mask = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)
        *layers, last = self.layers
        for layer in layers:
            values = layer(values, mask)
        return self.norm(last(values, mask, keep=1)[:, 0])
