"""Labs, vitals and demographics as they are, for a linear fusion.

Each value that is there is a token with a number, a 1 for being there, and a 1 for its code, each at a place of its
own; the tokens of a study are scaled so that their mean is the sum of what stands in them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from consilium.modalities.observations.encoder import ObservationsEncoder
from consilium.modalities.observations.features import Feature
from consilium.modalities.observations.preparation import CODES, NUMBERS
from consilium.modalities.part import MASK
from consilium.modalities.tokens import Encoder, FusionShape, Inputs, Tokens


class LinearObservationsEncoder(ObservationsEncoder):
    """Standardised numbers and codes [B, A] → tokens [B, A, 2 A + C], without a parameter.

    Parameters
    ----------
    features : sequence of Feature
        The A inputs, with C codes together.
    """

    places: Tensor
    there: Tensor

    def __init__(self, features: Sequence[Feature]) -> None:
        Encoder.__init__(self)
        inputs, codes = len(features), sum(len(feature.codes) for feature in features)
        self.width = 2 * inputs + codes
        places = torch.eye(self.width)
        self.register_buffer("places", places[:inputs], persistent=False)
        self.register_buffer("there", places[inputs : 2 * inputs], persistent=False)
        self._add_codes(features, places[2 * inputs :])

    def token_width(self, fusion: FusionShape) -> int:
        del fusion
        return self.width

    def _of_numbers(self, numbers: Tensor) -> Tensor:
        return (numbers * self._numbers)[..., None] * self.places + self.there

    def forward(self, inputs: Inputs, values: Tensor | None = None) -> Tokens:
        """As `ObservationsEncoder.forward`; `values` [B, A, 2 A + C]."""
        mask = inputs[MASK]
        tokens = self.values(inputs[NUMBERS], inputs[CODES]) if values is None else values
        return Tokens(tokens * mask.sum(dim=1)[:, None, None], mask)
