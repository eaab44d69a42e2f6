"""What about one modality of a study is out of the ordinary by itself.

A modality names a `Typicality` by reference in its declaration. The distance of its encoder's features from those of
the training studies is measured for every modality alike (`consilium.referral.out_of_distribution`); here it adds what
a distance of features does not see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy.typing as npt
from torch import Tensor

from consilium.modalities.registry import modalities
from consilium.modalities.tokens import Inputs
from consilium.system.installed import load

Learned = dict[str, Tensor]
"""What a statistic learned from training studies, by name; nothing where it learns nothing."""

PAD = -1
"""What stands beyond the end of a study's evidence in a statistic's [B, L]."""


class Statistic(Protocol):
    """A figure of one modality of a study that grows with how unusual it is, beside the distance of its features.

    Attributes
    ----------
    names : tuple of str
        Of the tensors that `fit` gives.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    def evidence(self, inputs: Inputs) -> Tensor:
        """What it is computed from, of the modality's `inputs`: [B], or [B, L] of integers with `PAD` at the end."""

    def fit(self, evidence: Tensor, patients: npt.NDArray, preparation: Any) -> Learned:
        """Learn from the training studies of `patients` [N]; `preparation` is the modality's, fitted."""

    def score(self, learned: Learned, evidence: Tensor) -> Tensor:
        """The figure of each study, [B]."""


Check = Callable[[Any], tuple[str, ...]]
"""A modality's prepared part → what speaks against answering, a sentence each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Typicality:
    """What one modality adds to how a study is compared with the training data.

    Attributes
    ----------
    statistic : Statistic or None
        In one unit with the distance: the larger of both, in standard deviations, is the score of the modality.
    checks : mapping of str to callable
        The checks that the modality's declaration names.
    """

    statistic: Statistic | None = None
    checks: Mapping[str, Check] = field(default_factory=dict)


def typicality_of(modality: str) -> Typicality:
    """What `modality` adds; nothing where it declares none, or is no modality but the joint state."""
    declared = modalities().get(modality)
    if declared is None or not declared.typicality:
        return Typicality()
    found: Typicality = load(declared.typicality)
    return found
