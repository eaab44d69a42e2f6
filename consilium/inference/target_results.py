"""Chances to pass steps, as the answers for the targets beside the findings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from consilium.domain.diagnosis import GradeProbability, GradeResult, SurvivalProbability, SurvivalResult
from consilium.domain.targets import OrdinalTarget, SurvivalTarget, Target, step_slices

Floats = npt.NDArray[np.float64]


def target_results(
    targets: Sequence[Target], passed: Floats
) -> tuple[tuple[GradeResult, ...], tuple[SurvivalResult, ...]]:
    """The answers for one study.

    Parameters
    ----------
    passed : float64 [S]
        Calibrated chance to pass each step and all before it of its target.
    """
    grades, survival = [], []
    for target, own in zip(targets, step_slices(targets), strict=True):
        if isinstance(target, OrdinalTarget):
            grades.append(_grades(target, passed[own]))
        else:
            survival.append(_survival(target, passed[own]))
    return tuple(grades), tuple(survival)


def _grades(target: OrdinalTarget, above: Floats) -> GradeResult:
    each = -np.diff(above, prepend=1.0, append=0.0)
    return GradeResult(
        target=target.name,
        display=target.display,
        grade=target.grades[int((above > 0.5).sum())],
        expected=float(above.sum()),
        probabilities=tuple(map(GradeProbability, target.grades, each.tolist())),
    )


def _survival(target: SurvivalTarget, without: Floats) -> SurvivalResult:
    return SurvivalResult(
        target=target.name,
        display=target.display,
        unit=target.unit,
        without_event=tuple(map(SurvivalProbability, target.horizons, without.tolist())),
    )
