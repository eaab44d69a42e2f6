"""Tokens: the common currency between encoders and fusion; and what an encoder is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, Self, TypeAlias

import torch
from torch import Tensor, nn

Inputs: TypeAlias = Mapping[str, Tensor]
"""Tensors [B, T, ...] of one modality by name, as its preparation collates them; among them ``mask``, bool [B, T]."""
Dense: TypeAlias = Callable[..., Tensor]
"""The part of an encoder without branches, over what is there of its modality: what a backend may run instead."""


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """What an encoder makes of a batch.

    Attributes
    ----------
    values : float [B, T, D]
    mask : bool [B, T]
        True where there is a token. A study without the modality has none.
    """

    values: Tensor
    mask: Tensor

    @property
    def present(self) -> Tensor:
        """Which studies have the modality, bool [B]."""
        return self.mask.any(dim=1)

    def keep(self, keep: Tensor) -> Tokens:
        """The same tokens, absent where `keep` (bool [B]) is False."""
        return Tokens(self.values, self.mask & keep[:, None])

    def summary(self) -> Tensor:
        """Mean and maximum over a study's tokens side by side, float32 [B, 2 D]; NaN where it has none."""
        values, weights = self.values.float(), self.mask[..., None].float()
        mean = (values * weights).sum(dim=1) / weights.sum(dim=1)
        largest = values.masked_fill(~self.mask[..., None], -torch.inf).amax(dim=1)
        return torch.cat([mean, largest], dim=1).masked_fill(~self.present[:, None], torch.nan)


class FusionShape(Protocol):
    """What encoders must know of the fusion that reads their tokens.

    Attributes
    ----------
    width : int
        D of every token.
    heads : int
        Attention heads; they divide the width.
    dropout : float
    """

    @property
    def width(self) -> int: ...

    @property
    def heads(self) -> int: ...

    @property
    def dropout(self) -> float: ...


class Encoder(nn.Module, ABC):
    """What makes tokens of one modality's inputs.

    Attributes
    ----------
    learning_rates : mapping of str to float
        Of parameters with a rate of their own, by the beginning of their names in the encoder.
    """

    learning_rates: Mapping[str, float] = MappingProxyType({})

    @classmethod
    @abstractmethod
    def build(cls, section: Any, preparation: Any, fusion: FusionShape, *, pretrained: bool) -> Self:
        """The encoder that the modality's `section` of the recipe describes.

        Parameters
        ----------
        preparation : Preparation
            Of the modality, fitted.
        fusion : FusionShape
        pretrained : bool
            Read the weights that the section names; False where they come from an artifact.
        """

    @abstractmethod
    def forward(self, inputs: Inputs) -> Tokens:
        """Tokens of a batch of studies."""

    def traced(self, inputs: Inputs) -> tuple[Tokens, Tensor | None]:
        """The tokens, and the tensor that explanations differentiate; None where there is none."""
        return self.forward(inputs), None

    def freeze_cache(self) -> None:
        """Compute what depends on the weights alone, once, in evaluation mode; they must not change afterwards."""


class DenseEncoder(Encoder):
    """An encoder whose expensive part has no branches, so that a backend can run that part in its stead.

    Attributes
    ----------
    dense_axes : tuple of tuple of int
        Shape of each input of `dense`, -1 where an axis may be of any length.
    """

    dense_axes: tuple[tuple[int, ...], ...]

    @abstractmethod
    def forward(self, inputs: Inputs, dense: Dense | None = None) -> Tokens:
        """Tokens of a batch of studies; `dense` runs in place of `self.dense`, which it was made from."""

    @abstractmethod
    def dense(self, *tensors: Tensor) -> Tensor:
        """What is computed of `dense_inputs`, without branches."""

    @abstractmethod
    def dense_inputs(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """What `dense` is given for `inputs`: what is there of the modality; of no rows where nothing is."""

    @abstractmethod
    def dense_examples(self, length: int) -> tuple[Tensor, ...]:
        """Inputs of `dense` to trace it with, `length` long on every axis that may be of any length."""


def scatter_rows(values: Tensor, rows: Tensor) -> Tensor:
    """Put `values` [n, ...] into the True places of `rows` (bool, any shape); zeros elsewhere."""
    out = values.new_zeros((*rows.shape, *values.shape[1:]))
    out[rows] = values
    return out


def no_tokens(studies: int, width: int, device: torch.device) -> Tokens:
    """What an encoder gives for a batch in which no study has its modality."""
    return Tokens(
        torch.zeros(studies, 1, width, device=device), torch.zeros(studies, 1, dtype=torch.bool, device=device)
    )
