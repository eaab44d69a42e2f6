"""Who answers for the targets beside the findings: the fused model from every subset, and the oracle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from consilium.calibration import Calibration
from training.cohorts.cohort_kind import Oracle
from training.evaluation.rows import ALL_PRESENT, AS_PRESENT, Row, RowKind, fused
from training.evaluation.targets.target_predictions import Floats, TargetPredictions

PassedRows = dict[Row, npt.NDArray]
"""Calibrated chance to pass each step and all before it of its target, [N, S]; NaN where a row does not answer."""


AsPresent = Callable[[dict[str, npt.NDArray]], Floats]
"""From values per subset those of the subset that each study has: `Predictions.as_present`."""


def passed_rows(predictions: TargetPredictions | None, calibration: Calibration, as_present: AsPresent) -> PassedRows:
    """Of the fused model, from what each study has and from each subset; none where there are no targets."""
    if predictions is None or calibration.steps is None:
        return {}
    subsets = {key: calibration.steps.passed(values, key) for key, values in predictions.logits.items()}
    return {AS_PRESENT: as_present(subsets)} | {fused(key): values for key, values in subsets.items()}


def oracle_passed(
    predictions: TargetPredictions | None, oracle: Oracle, order: npt.NDArray[np.int64], as_present: AsPresent
) -> PassedRows:
    """The best possible answer from what each study has, the oracle's rows at `order`; none where it has none."""
    if predictions is None or not oracle.passed:
        return {}
    subsets = {subset: oracle.passed[subset][order] for subset in predictions.logits}
    return {Row(RowKind.ORACLE, ALL_PRESENT): as_present(subsets)}
