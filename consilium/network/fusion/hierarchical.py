"""Hierarchical fusion: each modality by itself, then every pair, then all together.

Three levels, so that what two modalities mean to each other is found before the whole is judged. After the hierarchical
fusion of Majumder et al. 2018 (unimodal, bimodal, trimodal), with attention and masks for its dense layers, so that any
number of modalities takes part and any may be absent. All pairs share one set of weights: their modalities' embeddings
tell them apart, and M modalities cost M (M - 1) / 2 passes, not as many sets.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import cast

import torch
from torch import Tensor, nn

from consilium.configuration.recipe import FusionRecipe
from consilium.modalities.masked_attention import CrossAttentionLayer, SelfAttentionLayer
from consilium.modalities.tokens import Tokens
from consilium.network.fusion.fusion import Fusion


class HierarchicalFusion(Fusion):
    """Joint state as a class token's that has seen the states of all modalities and pairs that are present.

    A modality enters the pairs as `latents` tokens, so that its length costs nothing above the first level.
    """

    def __init__(self, recipe: FusionRecipe, modalities: tuple[str, ...], findings: int) -> None:
        super().__init__(recipe, modalities, findings)
        sizes = (recipe.width, recipe.heads, recipe.dropout)
        self.pairs = tuple(combinations(range(len(modalities)), 2))
        self.modality = nn.Parameter(torch.randn(len(modalities), recipe.width) * 0.02)
        self.latents = nn.ParameterDict({m: torch.randn(1, recipe.latents, recipe.width) * 0.02 for m in modalities})
        self.reads = nn.ModuleDict({m: CrossAttentionLayer(*sizes) for m in modalities})
        self.single, self.pair, self.whole = (nn.Parameter(torch.randn(recipe.width) * 0.02) for _ in range(3))
        depths = (1, recipe.depth, recipe.depth)
        self.levels = nn.ModuleList(nn.ModuleList(SelfAttentionLayer(*sizes) for _ in range(depth)) for depth in depths)
        self.norm = nn.LayerNorm(recipe.width)

    def forward(self, tokens: dict[str, Tokens]) -> Tensor:
        """`tokens` of every modality of the recipe → [B, D]."""
        present = torch.stack([tokens[modality].present for modality in self.modalities], dim=1)
        read = torch.stack([self._read(m, tokens[m]) for m in self.modalities], dim=1)
        read = read + self.modality[:, None]
        states, seen = [self._level(0, self.single, read, present)], [present]
        if self.pairs:
            first, second = (list(members) for members in zip(*self.pairs, strict=True))
            both = present[:, first] & present[:, second]
            states.append(self._level(1, self.pair, torch.cat([read[:, first], read[:, second]], dim=2), both))
            seen.append(both)
        everything, mask = torch.cat(states, dim=1)[:, None], torch.cat(seen, dim=1)
        return self.norm(self._level(2, self.whole, everything, present.any(dim=1)[:, None], mask[:, None])[:, 0])

    def _read(self, modality: str, own: Tokens) -> Tensor:
        """A modality's `latents` tokens, [B, L, D]."""
        latents = self.latents[modality].expand(len(own.values), -1, -1)
        found: Tensor = self.reads[modality](latents, own.values, own.mask)
        return found

    def _level(self, level: int, query: Tensor, groups: Tensor, present: Tensor, mask: Tensor | None = None) -> Tensor:
        """One state a group, [B, G, D], of groups of tokens [B, G, T, D] of which `present` bool [B, G] are there.

        `mask` bool [B, G, T]: which tokens of a group can be seen; all of a group that is there unless given.
        """
        studies, count, length, width = groups.shape
        seen = present[:, :, None].expand(-1, -1, length) if mask is None else mask
        stream = torch.cat([query.expand(studies, count, 1, width), groups], dim=2).flatten(0, 1)
        # A group's class token can always be seen.
        visible = nn.functional.pad(seen.flatten(0, 1), (1, 0), value=True)
        *layers, last = cast(Iterable[nn.Module], self.levels[level])
        for layer in layers:
            stream = layer(stream, visible)
        state: Tensor = last(stream, visible, keep=1)
        return state.reshape(studies, count, width)
