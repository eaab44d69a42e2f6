"""Whitening: the mean of a study's tokens, of any width, as one token of the fusion's width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from consilium.modalities.tokens import Tokens


class Whitening(nn.Module):
    """Tokens [B, T, K] → one token [B, 1, D]: ``(mean over T - mean) / scale @ components.T``, in float32.

    Attributes
    ----------
    mean, scale : float32 [K]
        Of the training studies.
    components : float32 [D, K]
        Rows of 0 where there are fewer than D.
    """

    mean: Tensor
    scale: Tensor
    components: Tensor

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("components", torch.zeros(width, features))

    def forward(self, tokens: Tokens) -> Tokens:
        # In half precision, differences from the mean would be lost.
        with torch.autocast(tokens.values.device.type, enabled=False):
            apart = (tokens.mean() - self.mean) / self.scale
            projected = apart @ self.components.T
        return Tokens(projected[:, None], tokens.present[:, None])


class MeanPool(nn.Module):
    """Tokens [B, T, D] → their mean [B, D]; 0 where there is none."""

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        return Tokens(values, mask).mean()
