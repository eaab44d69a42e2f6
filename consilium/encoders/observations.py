"""Labs, vitals and demographics → tokens: one token per value that is there.

The feature tokenizer of FT-Transformer (Gorishniy et al. 2021, section 3.3), with a small network in place of its
linear map so that "too low" and "too high" can both alarm. A missing value is a masked token; nothing is imputed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from consilium.encoders.tokens import Tokens
from consilium.recipe import ObservationsRecipe


class ObservationsEncoder(nn.Module):
    """Standardised values [B, A] → tokens [B, A, D].

    Parameters
    ----------
    recipe : ObservationsRecipe
    features : int
        A.
    width : int
        D.
    heads : int
        Attention heads of the layers over the tokens.
    """

    def __init__(self, recipe: ObservationsRecipe, features: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Parameter(torch.randn(features, recipe.width))
        self.inner_bias = nn.Parameter(torch.randn(features, recipe.width))
        self.outer = nn.Parameter(torch.randn(features, recipe.width, width) / recipe.width**0.5)
        self.feature = nn.Parameter(torch.randn(features, width) * 0.5)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, batch_first=True, norm_first=True)
        self.layers = nn.ModuleList()
        if recipe.depth:
            self.layers.append(nn.TransformerEncoder(layer, recipe.depth, enable_nested_tensor=False))
        self.norm = nn.LayerNorm(width)

    def values(self, observations: Tensor) -> Tensor:
        """What each value adds to its token, [B, A, D]; the place where explanations of values begin."""
        hidden = torch.nn.functional.gelu(observations[..., None] * self.inner + self.inner_bias)
        return torch.einsum("bah,ahd->bad", hidden, self.outer)

    def forward(self, observations: Tensor, observation_mask: Tensor, values: Tensor | None = None) -> Tokens:
        """`observations` float [B, A], `observation_mask` bool [B, A], `values` [B, A, D] in place of their own."""
        tokens = (self.values(observations) if values is None else values) + self.feature
        # A row without any value would divide by zero in the softmax; it is computed on a stand-in and stays masked.
        attended = observation_mask | ~observation_mask.any(dim=1, keepdim=True)
        for layer in self.layers:
            tokens = layer(tokens, src_key_padding_mask=~attended)
        return Tokens(self.norm(tokens), observation_mask)
