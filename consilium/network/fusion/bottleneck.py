"""Bottleneck fusion: the modalities keep to themselves and meet in a few shared tokens.

The multimodal bottleneck transformer (Nagrani et al. 2021, section 3.2.3): each modality has transformer layers of its
own over its own tokens and the bottleneck tokens; after each layer a bottleneck token is the mean of what the
modalities made of it. Modalities that a study lacks take no part in that mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from consilium.configuration.recipe import FusionRecipe
from consilium.modalities.masked_attention import SelfAttentionLayer
from consilium.modalities.tokens import Tokens
from consilium.network.fusion.fusion import Fusion, mean_present


class BottleneckFusion(Fusion):
    """Joint state as the mean of the class tokens of the modalities that are present.

    There is one layer more than `depth`, which counts the exchanges: the last one must still be read.
    """

    def __init__(self, recipe: FusionRecipe, modalities: tuple[str, ...], findings: int) -> None:
        super().__init__(recipe, modalities, findings)
        self.summaries = nn.ParameterDict({m: torch.randn(1, 1, recipe.width) * 0.02 for m in modalities})
        self.bottleneck = nn.Parameter(torch.randn(1, recipe.latents, recipe.width) * 0.02)
        self.layers = nn.ModuleList(
            nn.ModuleDict({m: SelfAttentionLayer(recipe.width, recipe.heads, recipe.dropout) for m in modalities})
            for _ in range(recipe.depth + 1)
        )
        self.norm = nn.LayerNorm(recipe.width)

    def forward(self, tokens: dict[str, Tokens]) -> Tensor:
        """`tokens` of every modality of the recipe → [B, D]."""
        present = torch.stack([tokens[modality].present for modality in self.modalities], dim=1)
        shared = self.bottleneck.expand(len(present), -1, -1)
        streams = {m: _with_summary(self.summaries[m], tokens[m].values) for m in self.modalities}
        # The class token and the bottleneck tokens can always be seen.
        masks = {m: nn.functional.pad(tokens[m].mask, (1, shared.shape[1]), value=True) for m in self.modalities}
        *exchanges, last = cast(Iterable[nn.ModuleDict], self.layers)
        for layer in exchanges:
            returned = []
            for modality, stream in streams.items():
                # [z_i, z_fsn,i] = Transformer_i([z_i, z_fsn]), each modality with its own weights.
                mixed = layer[modality](torch.cat([stream, shared], dim=1), masks[modality])
                streams[modality], own = mixed.split([stream.shape[1], shared.shape[1]], dim=1)
                returned.append(own)
            # z_fsn = mean over i of z_fsn,i.
            shared = mean_present(torch.stack(returned, dim=1), present)
        read = [last[m](torch.cat([streams[m], shared], dim=1), masks[m], keep=1) for m in self.modalities]
        # Section 3.4: one linear classifier for every class token, its logits averaged; it may as well come after.
        return mean_present(self.norm(torch.cat(read, dim=1)), present)


def _with_summary(summary: Tensor, values: Tensor) -> Tensor:
    return torch.cat([summary.expand(len(values), -1, -1), values], dim=1)
