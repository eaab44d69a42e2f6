"""Gated fusion: how much of each modality to let through, decided from all of them.

The gated multimodal unit (Arevalo et al. 2017, section 3): a modality's hidden state passes a gate that has seen the
states of every modality, one weight a channel. An absent modality is a zero at the gates and adds nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from consilium.configuration.recipe import FusionRecipe
from consilium.modalities.masked_attention import AttentionPool
from consilium.modalities.tokens import Tokens
from consilium.network.fusion.fusion import Fusion


class GatedFusion(Fusion):
    """Joint state from the gated sum of the modalities' pooled states, through an MLP of `depth` hidden layers."""

    def __init__(self, recipe: FusionRecipe, modalities: tuple[str, ...], findings: int) -> None:
        super().__init__(recipe, modalities, findings)
        width, count = recipe.width, len(modalities)
        self.pools = nn.ModuleDict({m: AttentionPool(width, recipe.heads) for m in modalities})
        self.hidden = nn.ModuleDict({m: nn.Linear(width, width) for m in modalities})
        self.gates = nn.ModuleDict({m: nn.Linear(count * width, width) for m in modalities})
        layers: list[nn.Module] = []
        for _ in range(recipe.depth):
            layers += [nn.Linear(width, 2 * recipe.width), nn.GELU(), nn.Dropout(recipe.dropout)]
            width = 2 * recipe.width
        self.mlp = nn.Sequential(*layers, nn.Linear(width, recipe.width), nn.LayerNorm(recipe.width))

    def forward(self, tokens: dict[str, Tokens]) -> Tensor:
        """`tokens` of every modality of the recipe → [B, D]."""
        pooled = {}
        for modality in self.modalities:
            own = tokens[modality]
            state = self.pools[modality](own.values, own.mask)
            pooled[modality] = state * own.present[:, None].to(state.dtype)
        everything = torch.cat(list(pooled.values()), dim=-1)
        terms = []
        for modality, state in pooled.items():
            # Figure 2a: h_i = tanh(W_i x_i), z_i = sigmoid(W_zi [x_1, ..., x_k]), h = sum of z_i * h_i.
            hidden = torch.tanh(self.hidden[modality](state))
            gate = torch.sigmoid(self.gates[modality](everything))
            terms.append(gate * hidden * tokens[modality].present[:, None].to(hidden.dtype))
        return self.mlp(torch.stack(terms).sum(dim=0))
