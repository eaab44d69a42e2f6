"""Random numbers of one training step, the same for a study whatever part of the batch a process has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def _everything(draws: Tensor) -> Tensor:
    return draws


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """What an augmentation draws from.

    Attributes
    ----------
    studies : int
        Of the global batch; so many rows are drawn.
    on_device : torch.Generator
        On the device of the inputs.
    on_cpu : torch.Generator
        The same draws on every device.
    take : callable
        The rows [B, ...] of [studies, ...] that belong to this process.
    """

    studies: int
    on_device: torch.Generator
    on_cpu: torch.Generator
    take: Callable[[Tensor], Tensor] = _everything

    @classmethod
    def alone(cls, studies: int, generator: torch.Generator) -> Draws:
        """Of a batch that one process has, from one generator."""
        return cls(studies, generator, generator)

    def uniform(self, *shape: int, on_cpu: bool = False) -> Tensor:
        """Evenly in [0, 1), float32 [B, *shape]."""
        return self._drawn(torch.rand, shape, on_cpu=on_cpu)

    def normal(self, *shape: int, on_cpu: bool = False) -> Tensor:
        """Standard normal, float32 [B, *shape]."""
        return self._drawn(torch.randn, shape, on_cpu=on_cpu)

    def _drawn(self, draw: Callable[..., Any], shape: tuple[int, ...], *, on_cpu: bool) -> Tensor:
        generator = self.on_cpu if on_cpu else self.on_device
        return self.take(draw((self.studies, *shape), generator=generator, device=generator.device))
