"""Domain-adversarial training: what tells the source of a study is unlearned (Ganin et al., "DANN", JMLR 2016).

A discriminator reads the joint state and learns to tell the source; on the way back its gradient changes its sign, so
that encoders and fusion learn the opposite. The discriminator belongs to the training, and no artifact has it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.fitting.objectives.likelihood import Summed
from training.fitting.objectives.objective import Objective, StepOutputs


class Discriminator(nn.Module):
    """Joint states [B, D] → logits [B, S] of their sources, behind a gradient that is reversed.

    Parameters
    ----------
    width : int
        D.
    sources : int
        S.
    """

    def __init__(self, width: int, sources: int) -> None:
        super().__init__()
        hidden = min(width, 128)
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, sources)
        )

    def forward(self, states: Tensor) -> Tensor:
        reversed_states = _Reversed.apply(states)  # type: ignore[no-untyped-call]
        logits: Tensor = self.layers(reversed_states).float()
        return logits


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        del ctx
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        del ctx
        return -gradients[0]


def _terms(step: StepOutputs) -> dict[str, Summed]:
    if not len(step.source_logits):
        return {}
    known = step.sources >= 0
    total = F.cross_entropy(step.source_logits[known], step.sources[known], reduction="sum")
    return {"adversarial": (total, known.sum().to(total.dtype))}


OBJECTIVE = Objective("adversarial", frozenset({"sources", "source_logits"}), of_own_heads=False, terms=_terms)
