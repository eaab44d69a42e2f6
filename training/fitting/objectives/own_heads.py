"""Each modality's own head, on the studies that have the modality."""

from __future__ import annotations

from training.fitting.objectives.likelihood import Summed, log_likelihood_sum
from training.fitting.objectives.objective import Objective, StepOutputs


def _terms(step: StepOutputs) -> dict[str, Summed]:
    return {
        modality: log_likelihood_sum(logits, step.labels, exclusive=step.exclusive, rows=step.present[modality])
        for modality, logits in step.unimodal.items()
    }


OBJECTIVE = Objective("modality", frozenset({"unimodal", "present"}), of_own_heads=True, terms=_terms)
