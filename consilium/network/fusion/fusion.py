"""What every fusion is, and the head that reads what it gives."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from consilium.configuration.recipe import FusionRecipe
from consilium.modalities.tokens import Tokens


class Fusion(nn.Module):
    """Tokens of each modality → states that a `FindingHead` reads.

    A fusion sees which modalities are absent by the masks alone, and gives a finite state for every subset of them.
    `forward` takes the tokens of every modality of the recipe and gives one joint state [B, D], or a state of its own
    for each finding, [B, F, D].

    Parameters
    ----------
    recipe : FusionRecipe
    modalities : tuple of str
        In the order of `consilium.modalities.registry.modality_names`.
    findings : int
        F.
    """

    def __init__(self, recipe: FusionRecipe, modalities: tuple[str, ...], findings: int) -> None:
        super().__init__()
        self.recipe = recipe
        self.modalities = modalities
        self.findings = findings

    @property
    def state_width(self) -> int:
        """Length of each state: D, unless the fusion says otherwise."""
        return self.recipe.width


class FindingHead(nn.Linear):
    """States → logits [B, F]: from one joint state [B, D], or each from the state of its own finding, [B, F, D]."""

    def forward(self, states: Tensor) -> Tensor:
        if states.ndim == 2:
            return super().forward(states)
        return (states * self.weight).sum(dim=-1) + self.bias


def joined(parts: list[Tokens], modality: Tensor) -> tuple[Tensor, Tensor]:
    """All tokens as one sequence: values [B, T, D], each with its modality's row of `modality` [M, D], mask [B, T]."""
    values = torch.cat([tokens.values + modality[position] for position, tokens in enumerate(parts)], dim=1)
    return values, torch.cat([tokens.mask for tokens in parts], dim=1)


def mean_present(states: Tensor, present: Tensor) -> Tensor:
    """Mean over the modalities that are present, [B, M, ..., D] and bool [B, M] → [B, ..., D]; 0 where none is."""
    weights = present.to(states.dtype).reshape(*present.shape, *[1] * (states.ndim - 2))
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
