"""VICReg's loss: two sides agree, vary, and repeat nothing (Bardes et al., ICLR 2022)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

_INVARIANCE, _VARIANCE, _COVARIANCE = 25.0, 25.0, 1.0
"""Weights of the paper."""
_EPSILON = 1e-4


def expander(inputs: int, width: int) -> nn.Module:
    """What the loss is applied behind, since it would flatten the space itself."""
    return nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width))


def agreement_loss(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Summed loss of n pairs, [n, E] each and n at least 2, and n; float [] each."""
    loss = _INVARIANCE * F.mse_loss(one, other)
    for side in (one, other):
        loss = loss + _VARIANCE / 2 * _spread(side) + _COVARIANCE * _redundancy(side)
    count = loss.new_tensor(float(len(one)))
    return loss * count, count


def _spread(values: Tensor) -> Tensor:
    """How far the standard deviations of [n, E] are below 1."""
    return F.relu(1 - (values.var(dim=0) + _EPSILON).sqrt()).mean()


def _redundancy(values: Tensor) -> Tensor:
    """Squared covariances between dimensions, over their number."""
    centred = values - values.mean(dim=0)
    covariance = centred.T @ centred / (len(values) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / values.shape[1]
