"""CORAL: the joint states of studies from different sources have the same mean and covariance.

Sun and Saenko, "Deep CORAL" (ECCV workshops 2016), for any number of sources and with the means, as Gulrajani and
Lopez-Paz (ICLR 2021) compare it. What differs between sources because their patients do is made alike, too.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from training.fitting.objectives.likelihood import Summed
from training.fitting.objectives.objective import Objective, StepOutputs

_FEWEST = 2
"""Studies of a source in a batch, of which there is a covariance."""


def coral_sum(states: Tensor, sources: Tensor) -> Summed:
    """Summed distance of every two sources, and their number.

    Parameters
    ----------
    states : float [B, D]
    sources : int [B]
        -1 takes no part.
    """
    known, counts = torch.unique(sources[sources >= 0], return_counts=True)
    moments = [_moments(states[sources == source].float()) for source in known[counts >= _FEWEST].tolist()]
    distances = [
        (mean - other_mean).square().mean() + (covariance - other_covariance).square().mean()
        for (mean, covariance), (other_mean, other_covariance) in combinations(moments, 2)
    ]
    total = torch.stack(distances).sum() if distances else states.sum() * 0.0
    return total, total.new_tensor(float(len(distances)))


def _moments(states: Tensor) -> tuple[Tensor, Tensor]:
    mean = states.mean(dim=0)
    centred = states - mean
    return mean, centred.T @ centred / (len(states) - 1)


def _terms(step: StepOutputs) -> dict[str, Summed]:
    return {"coral": coral_sum(step.states, step.sources)} if len(step.states) else {}


OBJECTIVE = Objective("coral", frozenset({"sources", "states"}), of_own_heads=False, terms=_terms)
