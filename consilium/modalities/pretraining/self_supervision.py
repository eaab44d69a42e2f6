"""Self-supervision: what an encoder of one modality can learn from its own records, without labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

from torch import Tensor, nn

from consilium.modalities.draws import Draws
from consilium.modalities.tokens import Encoder, FusionShape, Inputs


class SelfSupervision(nn.Module, ABC):
    """An objective of pretraining that reads one modality alone; its own weights are left behind afterwards."""

    @classmethod
    @abstractmethod
    def build(cls, section: Any, preparation: Any, fusion: FusionShape) -> Self:
        """For the encoder of a recipe's `section`, with tokens of ``fusion.width``.

        Raises
        ------
        InputError
            Where the section's encoder cannot learn in this way.
        """

    @abstractmethod
    def forward(self, encoder: Encoder, inputs: Inputs, draws: Draws) -> tuple[Tensor, Tensor]:
        """Summed loss of a batch and the number of things that it is summed over, float [] each; 0 of nothing."""
