"""Tokens: the common currency between encoders and fusion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

Dense: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""The part of an encoder without branches, over the studies that have its modality: what a backend may run instead."""


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """What an encoder says of a batch.

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
