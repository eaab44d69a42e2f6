"""Labs, vitals and demographics → tokens: one token per input that is there.

The feature tokenizer of FT-Transformer (Gorishniy et al. 2021, section 3.3), with a small network in place of its
linear map so that "too low" and "too high" can both alarm. What is no number has a vector of its own, which is added to
the token: a category, or that a value was sent as a limit (``<0.3``). A missing value is a masked token; nothing is
imputed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from consilium.modalities.observations.features import Feature
from consilium.modalities.observations.preparation import CODES, NUMBERS
from consilium.modalities.observations.section import ObservationsSection
from consilium.modalities.part import MASK
from consilium.modalities.tokens import Encoder, FusionShape, Inputs, Tokens


class ObservationsEncoder(Encoder):
    """Standardised numbers and codes [B, A] → tokens [B, A, D].

    Parameters
    ----------
    recipe : ObservationsSection
    features : sequence of Feature
        The A inputs.
    width : int
        D.
    heads : int
        Attention heads of the layers over the tokens.
    """

    _starts: Tensor
    _owners: Tensor
    _shares: Tensor
    _numbers: Tensor

    def __init__(
        self, recipe: ObservationsSection, features: Sequence[Feature], width: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.inner = nn.Parameter(torch.randn(len(features), recipe.width))
        self.inner_bias = nn.Parameter(torch.randn(len(features), recipe.width))
        self.outer = nn.Parameter(torch.randn(len(features), recipe.width, width) / recipe.width**0.5)
        self.feature = nn.Parameter(torch.randn(len(features), width) * 0.5)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, batch_first=True, norm_first=True)
        self.layers = nn.ModuleList()
        if recipe.depth:
            self.layers.append(nn.TransformerEncoder(layer, recipe.depth, enable_nested_tensor=False))
        self.norm = nn.LayerNorm(width)
        vectors = torch.randn(sum(len(feature.codes) for feature in features), width) * 0.5
        # A limit begins as the number alone; a category has nothing else to begin from.
        plain = torch.tensor([not feature.categorical for feature in features for _ in feature.codes], dtype=torch.bool)
        self._add_codes(features, nn.Parameter(vectors.masked_fill(plain[:, None], 0.0)))

    @classmethod
    def build(
        cls,
        section: ObservationsSection,
        preparation: Any,
        fusion: FusionShape,
        *,
        pretrained: bool,
    ) -> ObservationsEncoder:
        del pretrained
        if fusion.linear:
            from consilium.modalities.observations.linear_encoder import LinearObservationsEncoder

            return LinearObservationsEncoder(preparation.features)
        return cls(section, preparation.features, fusion.width, fusion.heads, fusion.dropout)

    def _add_codes(self, features: Sequence[Feature], vectors: Tensor) -> None:
        """Let each code add its row of `vectors`, [codes of all features, D]."""
        counts = [len(feature.codes) for feature in features]
        starts = [sum(counts[:position]) for position in range(len(features))]
        owners = [position for position, count in enumerate(counts) for _ in range(count)]
        shares = [share for feature in features for share in feature.shares]
        self.codes: Tensor | None
        if isinstance(vectors, nn.Parameter):
            self.register_parameter("codes", vectors if owners else None)
        else:
            self.register_buffer("codes", vectors if owners else None, persistent=False)
        # Worked out of the features, so none of them is stored with the weights.
        self.register_buffer("_starts", torch.tensor(starts, dtype=torch.long), persistent=False)
        self.register_buffer("_owners", torch.tensor(owners, dtype=torch.long), persistent=False)
        self.register_buffer("_shares", torch.tensor(shares, dtype=torch.float32), persistent=False)
        numbers = torch.tensor([float(feature.has_number) for feature in features])
        self.register_buffer("_numbers", numbers, persistent=False)

    def values(self, observations: Tensor, codes: Tensor) -> Tensor:
        """What each value adds to its token, [B, A, D]; the place where explanations of values begin."""
        found = self._of_numbers(observations)
        if self.codes is None:
            return found
        # Code 0 has no vector: nothing but a number.
        vectors = torch.cat([self.codes.new_zeros(1, self.codes.shape[1]), self.codes])
        return found + vectors[torch.where(codes > 0, self._starts + codes, 0)]

    def average_values(self) -> Tensor:
        """The same of the average training patient, [A, D]: numbers at their mean, every code by its share."""
        found = self._of_numbers(torch.zeros_like(self._numbers)[None])[0]
        if self.codes is None:
            return found
        return found.index_add(0, self._owners, self._shares[:, None].to(found.dtype) * self.codes.to(found.dtype))

    def _of_numbers(self, numbers: Tensor) -> Tensor:
        hidden = torch.nn.functional.gelu((numbers * self._numbers)[..., None] * self.inner + self.inner_bias)
        return torch.einsum("bah,ahd->bad", hidden, self.outer)

    def forward(self, inputs: Inputs, values: Tensor | None = None) -> Tokens:
        """`inputs`: numbers float, codes int64, mask bool, [B, A] each; `values` [B, A, D] in place of their own."""
        mask = inputs[MASK]
        tokens = (self.values(inputs[NUMBERS], inputs[CODES]) if values is None else values) + self.feature
        # A row without any value would divide by zero in the softmax; it is computed on a stand-in and stays masked.
        attended = mask | ~mask.any(dim=1, keepdim=True)
        for layer in self.layers:
            tokens = layer(tokens, src_key_padding_mask=~attended)
        return Tokens(self.norm(tokens), mask)

    def traced(self, inputs: Inputs) -> tuple[Tokens, Tensor | None]:
        """The tokens, and what each value adds to its token, [B, A, D]."""
        if not inputs[MASK].any():
            return self.forward(inputs), None
        values = self.values(inputs[NUMBERS], inputs[CODES]).detach().requires_grad_()
        return self.forward(inputs, values), values
