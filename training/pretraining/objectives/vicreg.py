"""VICReg: two records of a study agree, without any study being told apart from others (Bardes et al., ICLR 2022)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from consilium.configuration.recipe import Recipe
from training.pretraining.objectives.pretraining_objective import Pair, PairObjective, PretrainingStep, Summed

_INVARIANCE, _VARIANCE, _COVARIANCE = 25.0, 25.0, 1.0
"""Weights of the paper."""
_EPSILON = 1e-4


class VicReg(PairObjective):
    """On an expansion of each embedding, as the paper's expander: the loss would flatten the space itself."""

    def __init__(self, pairs: tuple[Pair, ...], recipe: Recipe) -> None:
        super().__init__(pairs, recipe)
        width = recipe.pretraining.width
        named = sorted({name for pair in pairs for name in pair})
        self.expanders = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)) for name in named}
        )

    def compare(self, step: PretrainingStep, pair: Pair, rows: Tensor) -> Summed:
        one, other = (self.expanders[name](step.embeddings[name][rows]) for name in pair)
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
