"""Operating points: from which probability a finding is called, and the bootstrap that says how sure that is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from consilium.domain.diagnosis import Estimate, OperatingPoint
from consilium.domain.errors import TrainingError

Floats = npt.NDArray[np.float64]


def operating_point(
    labels: npt.NDArray, probabilities: npt.NDArray, target_sensitivity: float, weights: npt.NDArray
) -> OperatingPoint:
    """The highest threshold that reaches `target_sensitivity`, halfway to the next lower probability.

    Halfway, so that the last digit of a probability decides no call.

    Parameters
    ----------
    labels, probabilities : float [N]
        NaN where unknown.
    weights : float [1 + R, N]
        `patient_bootstrap`.

    Raises
    ------
    TrainingError
        Where no study, or only one class of studies, has both a label and a probability.
    """
    known = ~np.isnan(labels) & ~np.isnan(probabilities)
    positive, scores, weights = labels[known] == 1, probabilities[known], weights[:, known]
    if not positive.any() or positive.all():
        raise TrainingError("an operating point needs positive and negative studies that have a modality")
    descending = np.sort(scores[positive])[::-1]
    # Without the tolerance .9 of 10 positives would ask for the tenth: 0.9 * 10 may exceed 9 in floating point.
    threshold = float(descending[max(int(np.ceil(target_sensitivity * positive.sum() - 1e-9)), 1) - 1])
    lower = scores[scores < threshold]
    if len(lower):
        threshold = float((threshold + lower.max()) / 2)
    called = scores >= threshold
    return OperatingPoint(
        threshold,
        target_sensitivity,
        sensitivity=_share(weights, called, positive),
        specificity=_share(weights, ~called, ~positive),
    )


def patient_bootstrap(patient_ids: npt.NDArray, replicates: int, seed: int) -> Floats:
    """How often each study counts in each replicate, float64 [1 + R, N]; the first row is the sample itself, all ones.

    Patients are drawn with replacement, each with all of its studies.
    """
    patients, patient = np.unique(np.asarray(patient_ids), return_inverse=True)
    rng = np.random.default_rng(seed)
    alike = np.full(len(patients), 1 / len(patients))
    weights = np.ones((1 + replicates, len(patient)))
    # Drawn one by one they are the same numbers as all at once, which would need four times the room.
    for row in weights[1:]:
        row[:] = rng.multinomial(len(patients), alike)[patient]
    return weights


def percentile_interval(values: npt.NDArray) -> Estimate:
    """The first of `values` [1 + R] with the 95 % percentile interval of the others; NaN replicates are left out."""
    replicates = values[1:][~np.isnan(values[1:])]
    with np.errstate(invalid="ignore"):  # between two infinite replicates there is no percentile
        low, high = np.percentile(replicates, [2.5, 97.5]) if len(replicates) else (np.nan, np.nan)
    return Estimate(float(values[0]), float(low), float(high))


def _share(weights: Floats, of: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> Estimate:
    with np.errstate(invalid="ignore"):
        estimate = percentile_interval((weights @ (of & among)) / (weights @ among))
    # No replicate with a study of that class: nothing is known of the share.
    return Estimate(estimate.value, 0.0, 1.0) if np.isnan(estimate.low) else estimate
