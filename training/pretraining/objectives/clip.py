"""InfoNCE: each study's record is found among those of the batch, from either side (Radford et al., "CLIP", 2021)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consilium.configuration.recipe import Recipe
from training.pretraining.objectives.pretraining_objective import Pair, PairObjective, PretrainingStep, Summed

_SCALE, _LARGEST = 1 / 0.07, 100.0
"""Of the paper: where the scale of similarities begins, and where it is held."""


class Clip(PairObjective):
    def __init__(self, pairs: tuple[Pair, ...], recipe: Recipe) -> None:
        super().__init__(pairs, recipe)
        self.log_scale = nn.Parameter(torch.tensor(math.log(_SCALE)))

    def compare(self, step: PretrainingStep, pair: Pair, rows: Tensor) -> Summed:
        one, other = (step.embeddings[name][rows] for name in pair)
        return contrast(one @ other.T * scale(self.log_scale))


def scale(log_scale: Tensor) -> Tensor:
    """What similarities are multiplied with."""
    return log_scale.clamp(max=math.log(_LARGEST)).exp()


def contrast(logits: Tensor) -> Summed:
    """Cross-entropy of the diagonal of `logits` [n, n] among its row and its column, averaged; summed over n."""
    targets = torch.arange(len(logits), device=logits.device)
    rows = F.cross_entropy(logits, targets, reduction="sum")
    columns = F.cross_entropy(logits.T, targets, reduction="sum")
    return (rows + columns) / 2, logits.new_tensor(float(len(logits)))
