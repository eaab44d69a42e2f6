"""Observations out of the ordinary: the most extreme standardised value."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
from torch import Tensor

from consilium.modalities.observations.preparation import NUMBERS
from consilium.modalities.part import MASK
from consilium.modalities.tokens import Inputs
from consilium.modalities.typicality import Learned, Typicality


class MostExtreme:
    """The largest absolute standardised value; 0 where a study has none."""

    names: tuple[str, ...] = ()

    def evidence(self, inputs: Inputs) -> Tensor:
        """That value of each study, [B]."""
        return inputs[NUMBERS].abs().masked_fill(~inputs[MASK], 0).amax(dim=1)

    def fit(self, evidence: Tensor, patients: npt.NDArray, preparation: Any) -> Learned:
        """Nothing: the values are standardised by the preparation."""
        del evidence, patients, preparation
        return {}

    def score(self, learned: Learned, evidence: Tensor) -> Tensor:
        """The value itself."""
        del learned
        return evidence


TYPICALITY = Typicality(statistic=MostExtreme())
