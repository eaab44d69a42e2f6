"""Stacked fusion: linear in each modality's features, for a fit without gradient descent.

The joint state holds the mean token of each modality that is present and a 1 for its presence. The head is linear, so
the fused logits are a prior and one term for each modality that is present: the weighted logits of a head of its own
(stacking, Wolpert 1992), less what they are before anything is known.
"""

from __future__ import annotations

import torch
from torch import Tensor

from consilium.modalities.tokens import Tokens
from consilium.network.fusion.fusion import Fusion


class StackedFusion(Fusion):
    """Joint state [B, M · (D + 1)]: each modality's mean token and whether it is present, 0 where it is absent."""

    @property
    def state_width(self) -> int:
        return len(self.modalities) * (self.recipe.width + 1)

    def columns(self, modality: str) -> slice:
        """Where the modality stands in the joint state; its last column is its presence."""
        width, place = self.recipe.width + 1, self.modalities.index(modality)
        return slice(place * width, (place + 1) * width)

    def forward(self, tokens: dict[str, Tokens]) -> Tensor:
        """`tokens` of every modality of the recipe → [B, M · (D + 1)]."""
        terms = []
        for modality in self.modalities:
            found = tokens[modality]
            mean = found.mean()
            terms += [mean, found.present[:, None].to(mean.dtype)]
        return torch.cat(terms, dim=1)
