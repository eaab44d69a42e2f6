"""How fast to learn: AdamW with decay where it belongs, warm-up, then a cosine down to nothing, per step."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from consilium.configuration.recipe import TrainingRecipe
from consilium.modalities.tokens import Encoder

_BETAS = (0.9, 0.98)
_DECAYED = (nn.Linear, nn.Conv2d, nn.Conv3d, nn.MultiheadAttention)


def warmup_cosine(step: int, total: int, warmup: float) -> float:
    """Factor on the learning rate at `step` of `total`: linear up over the share `warmup`, then half a cosine to 0."""
    rising = max(1, round(total * warmup)) if warmup > 0 else 0
    if step < rising:
        return (step + 1) / rising
    progress = min(1.0, (step - rising) / max(1, total - rising))
    return 0.5 * (1 + math.cos(math.pi * progress))


def optimizer(model: nn.Module, recipe: TrainingRecipe) -> AdamW:
    """AdamW over the trainable parameters (Loshchilov & Hutter 2019).

    Only weights of linear, convolution and attention layers decay; norms, biases, embeddings and learned tokens do not.
    An encoder may give parameters a rate of their own: see `Encoder.rate_of`.
    """
    rates = {
        parameter: module.rate_of(parameter, recipe.learning_rate)
        for module in model.modules()
        if isinstance(module, Encoder)
        for parameter in module.parameters()
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    decayed = _decayed_parameters(model)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = rates.get(parameter, recipe.learning_rate)
        decay = recipe.weight_decay if name in decayed else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    parameters = [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()]
    return AdamW(parameters, betas=_BETAS, fused=False)


def _decayed_parameters(model: nn.Module) -> set[str]:
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if isinstance(module, _DECAYED)
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim >= 2
    }


def scheduler(adamw: torch.optim.Optimizer, total: int, warmup: float) -> LambdaLR:
    """`warmup_cosine` on every group of `adamw`."""
    return LambdaLR(adamw, lambda step: warmup_cosine(step, total, warmup))
