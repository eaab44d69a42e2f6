"""AttentionLayer: how one layer of a transformer moves relevance from the tokens it made to those it read.

Relevance is a row of numbers, one a token: r. A layer with attention A [T, T], whose rows say what each token read,
takes it to r·A. Chains of such products are what attention rollout and its gradient-weighted forms are made of; from
the output to the input they need no product of two matrices.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn


class AttentionLayer(ABC):
    """One layer.

    Attributes
    ----------
    weights : nn.Module
        What its attention weights pass through, after the softmax.
    """

    def __init__(self, weights: nn.Module) -> None:
        self.weights = weights

    @abstractmethod
    def tokens(self, attention: Tensor, images: int) -> int:
        """T, for the `attention` of so many images."""

    @abstractmethod
    def pulled(self, attention: Tensor, relevance: Tensor) -> Tensor:
        """Relevance [N, T] of the tokens made as that of the tokens read; `attention` is its mean over heads."""


class GlobalAttention(AttentionLayer):
    """Every token reads every token: attention [N, T, T]."""

    def tokens(self, attention: Tensor, images: int) -> int:
        del images
        return int(attention.shape[-1])

    def pulled(self, attention: Tensor, relevance: Tensor) -> Tensor:
        return (relevance[:, None] @ attention)[:, 0]


class WindowAttention(AttentionLayer):
    """Tokens of a grid read those of their window (Swin): attention [N·windows, w², w²].

    Parameters
    ----------
    layer : nn.Module
        With `window_size` and `shift_size`, as it ran last.
    side : int
        Of the grid.
    """

    def __init__(self, weights: nn.Module, layer: nn.Module, side: int) -> None:
        super().__init__(weights)
        self._layer, self._side = layer, side

    def tokens(self, attention: Tensor, images: int) -> int:
        del attention, images
        return self._side**2

    def pulled(self, attention: Tensor, relevance: Tensor) -> Tensor:
        window, shift = math.isqrt(attention.shape[-1]), int(self._layer.shift_size)  # type: ignore[arg-type]
        grid = relevance.reshape(-1, self._side, self._side)
        rest = -self._side % window
        grid = F.pad(grid, (0, rest, 0, rest)).roll((-shift, -shift), (1, 2))
        side = (self._side + rest) // window
        windows = grid.reshape(-1, side, window, side, window).transpose(2, 3).reshape(-1, 1, window**2)
        read = (windows @ attention).reshape(-1, side, side, window, window).transpose(2, 3)
        grid = read.reshape(-1, side * window, side * window).roll((shift, shift), (1, 2))
        return grid[:, : self._side, : self._side].flatten(1)


def spread(relevance: Tensor, tokens: int) -> Tensor:
    """Relevance [N, t] of a coarser grid as that of a finer one, [N, `tokens`]: shared equally among what was merged.

    As it stands where the number of tokens is the same.
    """
    if relevance.shape[1] == tokens:
        return relevance
    coarse, fine = math.isqrt(relevance.shape[1]), math.isqrt(tokens)
    grid = F.interpolate(relevance.reshape(-1, 1, coarse, coarse), size=(fine, fine), mode="area")
    return (grid.flatten(1)) * (coarse / fine) ** 2
