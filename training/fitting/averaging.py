"""A moving average of the weights: what is validated and kept, while the raw weights go on learning."""

from __future__ import annotations

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class MovingAverage(WeightAveraging):
    """Exponential moving average of weights and batch statistics after every optimiser step (Polyak & Juditsky 1992).

    Validation sees the average, and the checkpoints' ``state_dict`` is the average; the raw weights lie beside it, so
    that a resumed training goes on exactly.

    Parameters
    ----------
    decay : float
        Share of the old average that a step keeps, once it is warm.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=_Average(decay))


class _Average:
    """The rule of `torch.optim.swa_utils.AveragedModel`, on lists of tensors in place."""

    def __init__(self, decay: float) -> None:
        self._decay = decay

    @torch.no_grad()
    def __call__(self, averages: list[Tensor], current: list[Tensor], averaged: Tensor) -> None:
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, current, 1 - warm_decay(self._decay, int(averaged)))
        else:  # counters
            torch._foreach_copy_(averages, current)


def warm_decay(decay: float, averaged: int) -> float:
    """Decay after `averaged` steps: short at first, or the random weights of the start would linger.

    The rule of TensorFlow's ``ExponentialMovingAverage`` where it is given the number of updates.
    """
    return min(decay, (1 + averaged) / (10 + averaged))
