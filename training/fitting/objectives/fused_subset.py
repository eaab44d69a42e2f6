"""The fused head on what modality dropout left of a study."""

from __future__ import annotations

from training.fitting.objectives.likelihood import Summed, log_likelihood_sum
from training.fitting.objectives.objective import Objective, StepOutputs


def _terms(step: StepOutputs) -> dict[str, Summed]:
    return {"subset": log_likelihood_sum(step.subset, step.labels, exclusive=step.exclusive)}


OBJECTIVE = Objective("subset", frozenset({"subset"}), of_own_heads=False, terms=_terms)
