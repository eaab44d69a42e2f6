"""The weighted sum of all objectives in one training step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.configuration.objectives_recipe import ObjectivesRecipe
from training.fitting.objectives import (
    adversarial,
    coral,
    distillation,
    fused_head,
    fused_subset,
    own_heads,
    target_steps,
)
from training.fitting.objectives.distillation import TEACHERS
from training.fitting.objectives.likelihood import Summed, mean_of
from training.fitting.objectives.objective import Objective, StepOutputs
from training.runtime.distributed import mean_over_processes

_MODULES = (fused_head, fused_subset, own_heads, distillation, target_steps, coral, adversarial)

OBJECTIVES: dict[str, Objective] = {module.OBJECTIVE.name: module.OBJECTIVE for module in _MODULES}
"""By the key of their weight. A new one is a module here, a line in this table and a weight in `ObjectivesRecipe`."""


@dataclass(frozen=True, slots=True, eq=False)
class Losses:
    """The terms of a step by name, unweighted, and their weighted sums.

    Attributes
    ----------
    terms : dict of float []
    multimodal : float []
        Of the fused head.
    unimodal : float []
        Of the modalities' own heads.
    """

    terms: dict[str, Tensor]
    multimodal: Tensor
    unimodal: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.multimodal + self.unimodal


def needs_teachers(weights: ObjectivesRecipe) -> bool:
    """Whether an objective that has a weight reads teachers."""
    return any(getattr(weights, name) > 0 and TEACHERS in one.reads for name, one in OBJECTIVES.items())


def aligns_sources(weights: ObjectivesRecipe) -> bool:
    """Whether an objective that has a weight reads where a study comes from."""
    return any(getattr(weights, name) > 0 and "sources" in one.reads for name, one in OBJECTIVES.items())


def training_losses(weights: ObjectivesRecipe, step: StepOutputs) -> Losses:
    """Each term, a mean over the known labels of the global batch.

    A process that holds a share of the batch divides its own sum by the mean count of all processes, so that the mean
    of the processes' losses, and of their gradients, is that of the whole batch.
    """
    summed = {name: objective.terms(step) for name, objective in OBJECTIVES.items()}
    terms = _means({term: one for terms in summed.values() for term, one in terms.items()})
    multimodal, unimodal = (
        _weighted(weights, {n: [terms[t] for t in summed[n]] for n, o in OBJECTIVES.items() if o.of_own_heads is own})
        for own in (False, True)
    )
    return Losses(terms, multimodal, unimodal)


def _means(sums: dict[str, Summed]) -> dict[str, Tensor]:
    counts = mean_over_processes(torch.stack([count for _, count in sums.values()]))
    return {name: mean_of(total, count) for (name, (total, _)), count in zip(sums.items(), counts, strict=True)}


def _weighted(weights: ObjectivesRecipe, terms: dict[str, list[Tensor]]) -> Tensor:
    """Sum over the objectives that have terms in this step."""
    parts = [getattr(weights, name) * torch.stack(own).sum() for name, own in terms.items() if own]
    return sum(parts[1:], start=parts[0])
