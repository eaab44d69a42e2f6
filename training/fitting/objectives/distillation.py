"""Each modality's own head beside a teacher that was trained on that modality alone (`training.fitting.teachers`)."""

from __future__ import annotations

from training.fitting.objectives.likelihood import Summed, divergence_sum
from training.fitting.objectives.objective import Objective, StepOutputs

TEACHERS = "teachers"
"""The field of `StepOutputs` for which teachers must be trained first."""


def _terms(step: StepOutputs) -> dict[str, Summed]:
    return {
        f"{modality}_teacher": divergence_sum(
            step.unimodal[modality], logits, exclusive=step.exclusive, rows=step.present[modality]
        )
        for modality, logits in step.teachers.items()
    }


OBJECTIVE = Objective("distillation", frozenset({"unimodal", "present", TEACHERS}), of_own_heads=True, terms=_terms)
