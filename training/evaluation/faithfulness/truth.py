"""Truth: where the evidence of a cohort's studies lies, and what a record would be without one piece of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from consilium.explain.case import Case
from consilium.preprocessing.batch import Prepared

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Twin:
    """A study without one piece of evidence.

    Attributes
    ----------
    part, finding : str
        The modality whose explanation should show the evidence, and what it is evidence for.
    prepared : Prepared
        The twin, as a model reads it.
    oracle : float
        The best possible log-odds of the finding, of the study minus of the twin.
    where : bool array
        What of the study carries the evidence, in the coordinates of `Truth.view`.
    """

    part: str
    finding: str
    prepared: Prepared
    oracle: float
    where: Mask


class Truth(Protocol):
    """What is known of a cohort's evidence, where its kind offers that."""

    def view(self, modality: str, case: Case, weights: npt.NDArray) -> npt.NDArray:
        """The weights of one finding where the truth is known: over the pixels of the first image, or over units."""
        ...

    def masks(self, modality: str, study_id: str) -> Mapping[str, Mask]:
        """Where each finding's evidence shows; empty where that is no matter of places."""
        ...

    def decisive(self, modality: str, case: Case, finding: str) -> tuple[Mask, Mask] | None:
        """Which of the study's units carry the evidence for `finding`, and which are scored at all, bool [U] each."""
        ...

    def twins(self, case: Case) -> Iterator[Twin]:
        """A twin for every piece of evidence in the study that a model reads and that is not neutral already."""
        ...

    def modality_log_odds(self, study_id: str) -> Mapping[frozenset[str], npt.NDArray[np.float64]]:
        """The best possible log-odds [F] from every subset of the modalities that the study has, the empty one too."""
        ...
