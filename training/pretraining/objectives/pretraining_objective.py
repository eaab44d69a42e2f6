"""What an objective of pretraining is: a loss with weights of its own, and what it reads of one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from consilium.configuration.recipe import Recipe
from consilium.modalities.draws import Draws
from consilium.modalities.tokens import Encoder, Inputs, Tokens
from consilium.network.aligned_encoders import AlignedEncoders

Pair = tuple[str, str]
Summed = tuple[Tensor, Tensor]
"""A summed loss and what it is summed over, float [] each."""


@dataclass(frozen=True, slots=True, eq=False)
class PretrainingStep:
    """One batch on its way through the encoders.

    Attributes
    ----------
    model : AlignedEncoders
    inputs : mapping of modality to Inputs
        As they are collated, without augmentation.
    tokens : mapping of modality to Tokens
        Of the augmented inputs; empty where no objective compares modalities.
    embeddings : mapping of modality to float [B, E]
        Of these tokens, of length 1.
    present : mapping of modality to bool [B]
    views : callable
        ``(modality) -> Tokens``: of the modality's inputs, augmented by draws of their own.
    draws : Draws
    """

    model: AlignedEncoders
    inputs: Mapping[str, Inputs]
    tokens: Mapping[str, Tokens]
    embeddings: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    views: Callable[[str], Tokens]
    draws: Draws

    def encoder(self, modality: str) -> Encoder:
        encoder: Any = self.model.encoders[modality]
        assert isinstance(encoder, Encoder)
        return encoder

    def both(self, pair: Pair) -> Tensor:
        """Which studies have both modalities, bool [B]."""
        return self.present[pair[0]] & self.present[pair[1]]


class PretrainingObjective(nn.Module, ABC):
    """A part of the loss; what it learned itself is left behind when the encoders are stored."""

    @abstractmethod
    def forward(self, step: PretrainingStep) -> Mapping[str, Summed]:
        """Its terms by the name under which they are logged; each is minimised as a mean."""


class PairObjective(PretrainingObjective):
    """One that compares the two modalities of each pair."""

    def __init__(self, pairs: tuple[Pair, ...], recipe: Recipe) -> None:
        super().__init__()
        del recipe
        self.pairs = pairs

    def forward(self, step: PretrainingStep) -> Mapping[str, Summed]:
        found = {}
        for pair in self.pairs:
            rows = step.both(pair)
            if int(rows.sum()) > 1:  # one study has nothing to be told apart from
                found["_".join(pair)] = self.compare(step, pair, rows)
        return found

    @abstractmethod
    def compare(self, step: PretrainingStep, pair: Pair, rows: Tensor) -> Summed:
        """Loss of one pair over the studies `rows` (bool [B]), at least two."""
