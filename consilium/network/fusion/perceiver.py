"""Perceiver: a few latents look at all tokens, and each finding asks the latents.

Latents attend to the tokens of all modalities and then to each other, `depth` times (Perceiver, Jaegle et al. 2021,
section 3.1), so that the cost grows with the number of tokens and not with its square. Output queries, one a finding,
read the latents (Perceiver IO, Jaegle et al. 2022, section 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from consilium.configuration.recipe import FusionRecipe
from consilium.modalities.masked_attention import CrossAttentionLayer, SelfAttentionLayer
from consilium.modalities.tokens import Tokens
from consilium.network.fusion.fusion import Fusion, joined


class PerceiverFusion(Fusion):
    """A state for each finding: what its output query found in the latents."""

    def __init__(self, recipe: FusionRecipe, modalities: tuple[str, ...], findings: int) -> None:
        super().__init__(recipe, modalities, findings)
        sizes = (recipe.width, recipe.heads, recipe.dropout)
        self.modality = nn.Parameter(torch.randn(len(modalities), recipe.width) * 0.02)
        # Truncated normal, standard deviation 0.02, as the Perceiver's latents start.
        self.latents = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, recipe.latents, recipe.width), std=0.02))
        self.queries = nn.Parameter(torch.randn(1, findings, recipe.width) * 0.02)
        self.reads = nn.ModuleList(CrossAttentionLayer(*sizes) for _ in range(recipe.depth))
        self.thinks = nn.ModuleList(SelfAttentionLayer(*sizes) for _ in range(recipe.depth))
        self.decode = CrossAttentionLayer(*sizes)
        self.norm = nn.LayerNorm(recipe.width)

    def forward(self, tokens: dict[str, Tokens]) -> Tensor:
        """`tokens` of every modality of the recipe → [B, F, D]."""
        values, mask = joined([tokens[modality] for modality in self.modalities], self.modality)
        latents = self.latents.expand(len(values), -1, -1)
        all_latents = mask.new_ones(latents.shape[:2])
        for read, think in zip(self.reads, self.thinks, strict=True):
            latents = think(read(latents, values, mask), all_latents)
        queries = self.queries.expand(len(values), -1, -1)
        return self.norm(self.decode(queries, latents, all_latents))
