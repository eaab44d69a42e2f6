"""Gated cross-attention: each modality's own transformer, into which the others are let step by step.

Flamingo's layer (Alayrac et al. 2022, section 2.2 and figure 4): in front of a layer of the modality's own, its tokens
ask those of the other modalities; what they find, and a feed-forward network after it, is added times tanh(α), where α
is learned and starts from 0. So a training starts from modalities that keep to themselves, and lets in what helps.
Flamingo has one stream (language) that asks one other modality; here every modality has a stream and asks all others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from consilium.configuration.recipe import FusionRecipe
from consilium.modalities.masked_attention import MaskedAttention, SelfAttentionLayer, feed_forward
from consilium.modalities.tokens import Tokens
from consilium.network.fusion.fusion import Fusion, mean_present


class _GatedLayer(nn.Module):
    """One modality's gated cross-attention, then its own layer."""

    def __init__(self, recipe: FusionRecipe) -> None:
        super().__init__()
        width = recipe.width
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.attention = MaskedAttention(width, recipe.heads)
        self.feed = feed_forward(width, recipe.dropout)
        self.gates = nn.Parameter(torch.zeros(2))
        """α of the attention and of the feed-forward network."""
        self.own = SelfAttentionLayer(width, recipe.heads, recipe.dropout)

    def forward(self, stream: Tensor, seen: Tensor, others: Tensor, other_mask: Tensor, keep: int | None) -> Tensor:
        """`seen` bool [B, T] masks the stream [B, T, D], `other_mask` bool [B, U] the `others` [B, U, D]."""
        asking, asked, second = self.norms
        found, fed = torch.tanh(self.gates)
        somebody = other_mask.any(dim=1)[:, None, None].to(stream.dtype)
        # Figure 4: y = y + tanh(α_xattn) attention(q=y, kv=x); y = y + tanh(α_dense) ffw(y). Without anybody to ask,
        # the stream passes as it is.
        stream = stream + found * self.attention(asking(stream), asked(others), other_mask)
        stream = stream + somebody * fed * self.feed(second(stream))
        own: Tensor = self.own(stream, seen, keep=keep)
        return own


class GatedCrossAttentionFusion(Fusion):
    """Joint state as the mean of the class tokens of the modalities that are present."""

    def __init__(self, recipe: FusionRecipe, modalities: tuple[str, ...], findings: int) -> None:
        super().__init__(recipe, modalities, findings)
        self.summaries = nn.ParameterDict({m: torch.randn(1, 1, recipe.width) * 0.02 for m in modalities})
        self.modality = nn.Parameter(torch.randn(len(modalities), recipe.width) * 0.02)
        self.layers = nn.ModuleList(
            nn.ModuleDict({m: _GatedLayer(recipe) for m in modalities}) for _ in range(recipe.depth)
        )
        self.norm = nn.LayerNorm(recipe.width)

    def forward(self, tokens: dict[str, Tokens]) -> Tensor:
        """`tokens` of every modality of the recipe → [B, D]."""
        present = torch.stack([tokens[modality].present for modality in self.modalities], dim=1)
        streams = {m: self._stream(m, tokens[m].values) for m in self.modalities}
        # The class token can always be seen by its own modality, and by the others where the modality is there.
        masks = {m: nn.functional.pad(tokens[m].mask, (1, 0), value=True) for m in self.modalities}
        there = {m: masks[m] & tokens[m].present[:, None] for m in self.modalities}
        *first, last = cast(Iterable[nn.ModuleDict], self.layers)
        for layer in first:
            streams = {m: layer[m](streams[m], masks[m], *self._others(m, streams, there), None) for m in streams}
        read = [last[m](streams[m], masks[m], *self._others(m, streams, there), 1) for m in self.modalities]
        return mean_present(self.norm(torch.cat(read, dim=1)), present)

    def _stream(self, modality: str, values: Tensor) -> Tensor:
        """The class token, then the tokens, with the modality's embedding."""
        summary = self.summaries[modality].expand(len(values), -1, -1)
        return torch.cat([summary, values], dim=1) + self.modality[self.modalities.index(modality)]

    def _others(self, modality: str, streams: dict[str, Tensor], masks: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Streams and masks of all modalities but `modality`; one masked token where there is no other."""
        names = [name for name in self.modalities if name != modality]
        if not names:
            own, mask = streams[modality], masks[modality]
            return own[:, :1], torch.zeros_like(mask[:, :1])
        return torch.cat([streams[n] for n in names], dim=1), torch.cat([masks[n] for n in names], dim=1)
