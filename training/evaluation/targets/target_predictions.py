"""A model's answers for the targets beside the findings, before calibration, beside what became of the studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_OUTCOMES, _STEPS = "outcomes", "steps/"


@dataclass(frozen=True, slots=True, eq=False)
class TargetPredictions:
    """Of N studies.

    Attributes
    ----------
    outcomes : float64 [N, G, 2]
        As `Cohort.outcomes`.
    logits : mapping of subset_key to float64 [N, S]
        Log-odds of passing each step given that subset alone; rows of NaN where the study lacks one of its modalities.
    """

    outcomes: Floats
    logits: Mapping[str, Floats]

    def select(self, rows: npt.NDArray) -> TargetPredictions:
        """The studies at `rows`, indices or a mask [N]."""
        return TargetPredictions(self.outcomes[rows], {subset: values[rows] for subset, values in self.logits.items()})

    @classmethod
    def concatenate(cls, parts: Sequence[TargetPredictions]) -> TargetPredictions:
        """All studies of `parts`, which must hold the same subsets."""
        logits = {subset: np.concatenate([part.logits[subset] for part in parts]) for subset in parts[0].logits}
        return cls(np.concatenate([part.outcomes for part in parts]), logits)

    def columns(self) -> dict[str, npt.NDArray]:
        """Arrays by name, for an ``.npz``."""
        return {_OUTCOMES: self.outcomes} | {f"{_STEPS}{subset}": values for subset, values in self.logits.items()}

    @classmethod
    def from_columns(cls, columns: Mapping[str, npt.NDArray]) -> TargetPredictions | None:
        """What `columns` gave; None where there is nothing of it."""
        if _OUTCOMES not in columns:
            return None
        logits = {name.removeprefix(_STEPS): values for name, values in columns.items() if name.startswith(_STEPS)}
        return cls(columns[_OUTCOMES], logits)
