"""What an objective is: one term of what training minimises, or one for each modality."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from consilium.domain.targets import Target
from training.fitting.objectives.likelihood import Summed

_NONE = torch.empty(0, 0)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StepOutputs:
    """What the model answers in one training step, beside the labels.

    Attributes
    ----------
    labels : float [B, F]
        1 present, 0 absent, NaN unknown.
    exclusive : bool
        Whether the findings exclude each other.
    fused, subset : float [B, F]
        Fused logits from everything a study has, and from what modality dropout left of it.
    unimodal : mapping of modality to float [B, F]
        Logits of each modality's own head.
    present : mapping of modality to bool [B]
    teachers : mapping of modality to float [B, F]
        Logits of each modality's teacher, NaN where it has none; empty where none was trained.
    targets : tuple of Target
        Beside the findings.
    steps : float [B, S]
        Whether each study passed each step of the targets, NaN where it did not come to it or that is unknown.
    fused_steps, subset_steps : float [B, S]
        Log-odds of passing each, as `fused` and `subset`.
    sources : int [B]
        Which source each study is from, -1 unknown; of no studies where no objective with a weight reads it.
    states : float [B, D]
        Joint states of everything a study has; likewise.
    source_logits : float [B, sources]
        What the discriminator makes of them; of no studies without one.
    """

    labels: Tensor
    exclusive: bool
    fused: Tensor
    subset: Tensor
    unimodal: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    teachers: Mapping[str, Tensor] = field(default_factory=dict)
    targets: tuple[Target, ...] = ()
    steps: Tensor = _NONE
    fused_steps: Tensor = _NONE
    subset_steps: Tensor = _NONE
    sources: Tensor = _NONE
    states: Tensor = _NONE
    source_logits: Tensor = _NONE


@dataclass(frozen=True, slots=True)
class Objective:
    """A part of the loss.

    Attributes
    ----------
    name : str
        Key of its weight in the recipe's ``objectives``.
    reads : frozenset of str
        The fields of `StepOutputs` that it needs beside labels and exclusiveness.
    of_own_heads : bool
        Whether it belongs to the modalities' own heads; otherwise to the fused head. The recipe's
        ``objectives.gradient`` decides how the two meet.
    terms : callable
        Its terms by the name under which they are logged; each is minimised as a mean.
    """

    name: str
    reads: frozenset[str]
    of_own_heads: bool
    terms: Callable[[StepOutputs], Mapping[str, Summed]]
