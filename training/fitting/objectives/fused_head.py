"""The fused head on everything that a study has."""

from __future__ import annotations

from training.fitting.objectives.likelihood import Summed, log_likelihood_sum
from training.fitting.objectives.objective import Objective, StepOutputs


def _terms(step: StepOutputs) -> dict[str, Summed]:
    return {"fused": log_likelihood_sum(step.fused, step.labels, exclusive=step.exclusive)}


OBJECTIVE = Objective("fused", frozenset({"fused"}), of_own_heads=False, terms=_terms)
