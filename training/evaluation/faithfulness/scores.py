"""Scores: figures of single studies, before they are summarised."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata


@dataclass(frozen=True, slots=True)
class Subject:
    """What a figure is of: one part of an explanation, made by one method, for one finding."""

    part: str
    method: str
    finding: str


@dataclass(frozen=True, slots=True)
class Twins:
    """What one method attributes to the evidence that twins lack, beside what the evidence did; one entry a twin."""

    patients: list[str] = field(default_factory=list)
    attributed: list[float] = field(default_factory=list)
    model: list[float] = field(default_factory=list)
    oracle: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Scores:
    """All figures of all studies.

    Attributes
    ----------
    figures : dict of (Subject, metric) to list of (patient, figure)
    twins : dict of Subject to Twins
    """

    figures: dict[tuple[Subject, str], list[tuple[str, float]]] = field(default_factory=dict)
    twins: dict[Subject, Twins] = field(default_factory=dict)

    def add(self, subject: Subject, metric: str, patient: str, figure: float) -> None:
        """Note one study's figure; NaN says that this study has none."""
        if np.isfinite(figure):
            self.figures.setdefault((subject, metric), []).append((patient, float(figure)))

    def add_twin(self, subject: Subject, patient: str, attributed: float, model: float, oracle: float) -> None:
        """Note what was attributed to one piece of evidence, and by how much it moved the model and the oracle."""
        twins = self.twins.setdefault(subject, Twins())
        twins.patients.append(patient)
        twins.attributed.append(float(attributed))
        twins.model.append(float(model))
        twins.oracle.append(float(oracle))


def spearman(first: npt.NDArray, second: npt.NDArray) -> float:
    """Rank correlation of two arrays of one shape; NaN where one of them is constant."""
    ranks = [rankdata(values.ravel()) for values in (first, second)]
    if min(np.ptp(r) for r in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])
