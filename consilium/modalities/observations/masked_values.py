"""Masked values: some of a study's values are hidden, and the others must tell how high they were.

The numbers are standardised, so that the loss of predicting nothing is about 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from consilium.modalities.draws import Draws
from consilium.modalities.observations.preparation import NUMBERS, ObservationsPreparation
from consilium.modalities.observations.section import ObservationsSection
from consilium.modalities.part import MASK
from consilium.modalities.pretraining.self_supervision import SelfSupervision
from consilium.modalities.tokens import Encoder, FusionShape, Inputs

_SHARE = 0.3


class MaskedValues(SelfSupervision):
    """Predicts hidden standardised numbers from the mean of the tokens that are left.

    Parameters
    ----------
    width : int
        Of the encoder's tokens.
    numbers : bool tensor [A]
        Which features are numbers.
    """

    numbers: Tensor

    def __init__(self, width: int, numbers: Tensor) -> None:
        super().__init__()
        self.register_buffer("numbers", numbers, persistent=False)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, len(numbers)))

    @classmethod
    def build(
        cls, section: ObservationsSection, preparation: ObservationsPreparation, fusion: FusionShape
    ) -> MaskedValues:
        del section
        return cls(fusion.width, torch.tensor([feature.has_number for feature in preparation.features]))

    def forward(self, encoder: Encoder, inputs: Inputs, draws: Draws) -> tuple[Tensor, Tensor]:
        mask, numbers = inputs[MASK], inputs[NUMBERS]
        drawn = draws.uniform(mask.shape[1]) < _SHARE
        hidden = drawn & mask
        left = mask & ~hidden
        asked = hidden & left.any(dim=1, keepdim=True) & self.numbers
        tokens = encoder({**inputs, NUMBERS: numbers.masked_fill(hidden, 0.0), MASK: left})
        shares = left.to(tokens.values.dtype)[..., None]
        mean = (tokens.values * shares).sum(dim=1) / shares.sum(dim=1).clamp(min=1)
        error = (self.head(mean).float() - numbers.float()).square()
        return torch.where(asked, error, 0.0).sum(), asked.sum().float()
