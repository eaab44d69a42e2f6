"""The steps of every target beside the findings, by all modalities and by what modality dropout left of them.

The log-likelihood of a study is the sum over the steps that it came to: for ordered grades that of CORN (Shi et al.
2021), for times to an event, which may be censored, that of discrete-time survival (Gensheimer and Narasimhan 2019).
"""

from __future__ import annotations

from torch import Tensor

from consilium.domain.targets import step_slices
from training.fitting.objectives.likelihood import Summed, log_likelihood_sum
from training.fitting.objectives.objective import Objective, StepOutputs


def steps_likelihood_sum(logits: Tensor, steps: Tensor) -> Summed:
    """Summed negative log-likelihood of one target, and the number of studies of which something is known.

    Parameters
    ----------
    logits, steps : float [B, S]
    """
    total, _ = log_likelihood_sum(logits, steps, exclusive=False)
    return total, steps.isfinite().any(dim=1).sum().to(logits.dtype)


def _terms(step: StepOutputs) -> dict[str, Summed]:
    found: dict[str, Summed] = {}
    for target, own in zip(step.targets, step_slices(step.targets), strict=True):
        for name, answers in (("fused", step.fused_steps), ("subset", step.subset_steps)):
            found[f"target_{target.name}_{name}"] = steps_likelihood_sum(answers[:, own], step.steps[:, own])
    return found


OBJECTIVE = Objective(
    "targets",
    frozenset({"targets", "steps", "fused_steps", "subset_steps"}),
    of_own_heads=False,
    terms=_terms,
)
