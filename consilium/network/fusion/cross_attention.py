"""Cross-attention: each modality's summary asks the tokens of all modalities.

After ViLBERT's co-attention (Lu et al. 2019, section 2.2) with one summary query per modality: a layer lets every
summary look at all tokens, then the summaries at each other, then at itself through a feed-forward network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from consilium.configuration.recipe import FusionRecipe
from consilium.modalities.masked_attention import AttentionPool, MaskedAttention, feed_forward
from consilium.modalities.tokens import Tokens
from consilium.network.fusion.fusion import Fusion, joined, mean_present


class _Layer(nn.Module):
    def __init__(self, recipe: FusionRecipe) -> None:
        super().__init__()
        width = recipe.width
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.across = MaskedAttention(width, recipe.heads)
        self.among = MaskedAttention(width, recipe.heads)
        self.feed = feed_forward(width, recipe.dropout)
        self.dropout = nn.Dropout(recipe.dropout)

    def forward(self, summaries: Tensor, present: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        first, second, third = self.norms
        summaries = summaries + self.dropout(self.across(first(summaries), tokens, mask))
        asked = second(summaries)
        summaries = summaries + self.dropout(self.among(asked, asked, present))
        return summaries + self.dropout(self.feed(third(summaries)))


class CrossAttentionFusion(Fusion):
    """Joint state as the mean of the summaries of the modalities that are present."""

    def __init__(self, recipe: FusionRecipe, modalities: tuple[str, ...], findings: int) -> None:
        super().__init__(recipe, modalities, findings)
        self.pools = nn.ModuleDict({m: AttentionPool(recipe.width, recipe.heads) for m in modalities})
        self.modality = nn.Parameter(torch.randn(len(modalities), recipe.width) * 0.02)
        self.layers = nn.ModuleList(_Layer(recipe) for _ in range(recipe.depth))
        self.norm = nn.LayerNorm(recipe.width)

    def forward(self, tokens: dict[str, Tokens]) -> Tensor:
        """`tokens` of every modality of the recipe → [B, D]."""
        ordered = [tokens[modality] for modality in self.modalities]
        pooled = [self.pools[m](t.values, t.mask) for m, t in zip(self.modalities, ordered, strict=True)]
        summaries = torch.stack(pooled, dim=1) + self.modality
        everything, mask = joined(ordered, self.modality)
        present = torch.stack([t.present for t in ordered], dim=1)
        for layer in self.layers:
            summaries = layer(summaries, present, everything, mask)
        return self.norm(mean_present(summaries, present))
