"""How the gradients of the fused head and of the modalities' own heads meet in an encoder, by the recipe's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from training.fitting.objectives.losses import Losses
from training.fitting.pareto import pareto_backward

Backward = Callable[[Losses, Sequence[nn.Module], nn.Module], None]
"""Differentiates the losses of a step, given the encoders and the model that they are a part of."""


def _sum(losses: Losses, encoders: Sequence[nn.Module], model: nn.Module) -> None:
    del encoders, model
    torch.autograd.backward(losses.total)


def _mmpareto(losses: Losses, encoders: Sequence[nn.Module], model: nn.Module) -> None:
    pareto_backward(losses.multimodal, losses.unimodal, encoders, model)


GRADIENTS: dict[str, Backward] = {"sum": _sum, "mmpareto": _mmpareto}
