"""Sigmoid loss: each pair of records is of one study or not, decided by itself (Zhai et al., "SigLIP", ICCV 2023)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consilium.configuration.recipe import Recipe
from training.pretraining.objectives.clip import scale
from training.pretraining.objectives.pretraining_objective import Pair, PairObjective, PretrainingStep, Summed

_SCALE, _BIAS = 10.0, -10.0
"""Where they begin in the paper."""


class SigLip(PairObjective):
    def __init__(self, pairs: tuple[Pair, ...], recipe: Recipe) -> None:
        super().__init__(pairs, recipe)
        self.log_scale = nn.Parameter(torch.tensor(math.log(_SCALE)))
        self.bias = nn.Parameter(torch.tensor(_BIAS))

    def compare(self, step: PretrainingStep, pair: Pair, rows: Tensor) -> Summed:
        one, other = (step.embeddings[name][rows] for name in pair)
        logits = one @ other.T * scale(self.log_scale) + self.bias
        signs = 2 * torch.eye(len(logits), device=logits.device) - 1
        return -F.logsigmoid(signs * logits).sum(), logits.new_tensor(float(len(logits)))
