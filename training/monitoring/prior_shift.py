"""Prior shift: how frequent each finding is among recent answers, estimated without outcomes.

Two estimates that suppose the same, that studies with a finding look as they did (label shift): the likelihood's
maximum, by expectation-maximisation over calibrated probabilities (Saerens et al., Neural Computation 2002), and the
share of calls, corrected for sensitivity and specificity (Lipton et al., ICML 2018; Rogan and Gladen, 1978). Where they
disagree, something other than the frequency has changed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from consilium.calibration import patient_bootstrap, percentile_interval
from consilium.domain.diagnosis import Estimate, OperatingPoint
from training.evaluation.comparisons import estimate_columns
from training.monitoring.answers import AnswerTable

Floats = npt.NDArray[np.float64]

_STEPS = 1000
_CLOSE = 1e-6
_LEAST = 20


def prior_shift(
    answers: AnswerTable,
    priors: Mapping[str, float],
    points: Mapping[str, OperatingPoint],
    *,
    exclusive: bool,
    calibrated_on: int,
    replicates: int,
    seed: int,
) -> pd.DataFrame:
    """One line a finding: columns finding, n, trained, estimate, corrected_calls (each with interval), shifted, option.

    Parameters
    ----------
    priors : mapping of finding to float
        Prevalence that the probabilities were calibrated at.
    points : mapping of finding to OperatingPoint
    exclusive : bool
        The findings exclude each other: their frequencies are estimated together.
    calibrated_on : int
        Studies that the probabilities were calibrated on.

    Notes
    -----
    Intervals are percentiles over a bootstrap by patient. Those of the likelihood's maximum also draw by how much a
    calibration on so few studies may be off as a whole, which a model that tells little of a finding magnifies: its
    interval is then wide. Those of the corrected calls also draw sensitivity and specificity from what the operating
    point says of them. `option` is what answers would have to be corrected by
    (`--prevalence`); empty where the interval holds the trained prevalence.
    """
    known = answers.select(np.flatnonzero(np.isfinite(answers.probabilities).all(axis=1)))
    if len(known) < _LEAST:
        return pd.DataFrame()
    weights = patient_bootstrap(known.patients_or_keys, replicates, seed)
    trained = np.array([priors[name] for name in known.findings])
    rng = np.random.default_rng(seed)
    factors = _calibration_factors(trained, calibrated_on, len(weights), rng)
    if exclusive:
        estimates = em_prevalence(known.probabilities, trained, weights, factors)
    else:
        columns = zip(known.probabilities.T, trained, factors.T, strict=True)
        estimates = np.stack([_binary(p, prior, weights, factor) for p, prior, factor in columns], axis=1)
    lines = []
    for f, finding in enumerate(known.findings):
        found = percentile_interval(estimates[:, f])
        shifted = not found.low <= trained[f] <= found.high
        line: dict[str, object] = {"finding": finding, "n": len(known), "trained": float(trained[f])}
        line |= estimate_columns("estimate", found)
        called = weights @ (known.probabilities[:, f] >= points[finding].threshold) / weights.sum(axis=1)
        line |= estimate_columns("corrected_calls", percentile_interval(_corrected(called, points[finding], rng)))
        option = f"--prevalence {finding}={found.value:.3f}" if shifted else ""
        lines.append(line | {"shifted": shifted, "option": option})
    return pd.DataFrame(lines)


def _calibration_factors(prior: Floats, studies: int, replicates: int, rng: np.random.Generator) -> Floats:
    """Of the odds of each finding, [R, F]: 1, then draws of how far a calibration on `studies` may be off."""
    spread = 1 / np.sqrt(max(studies, 1) * prior * (1 - prior))
    factors = np.exp(spread * rng.standard_normal((replicates, len(prior))))
    factors[0] = 1
    return factors


def _binary(probabilities: Floats, prior: float, weights: Floats, factor: Floats) -> Floats:
    """`em_prevalence` of one finding, [R]."""
    both = np.stack([probabilities, 1 - probabilities], axis=1)
    factors = np.stack([factor, np.ones_like(factor)], axis=1)
    return em_prevalence(both, np.array([prior, 1 - prior]), weights, factors)[:, 0]


def em_prevalence(probabilities: Floats, prior: Floats, weights: Floats, factors: Floats | float = 1.0) -> Floats:
    """Frequencies of the classes, [R, C], that make the answers most likely, for each row of weights.

    Parameters
    ----------
    probabilities : float [N, C]
        Calibrated at `prior`, adding up to 1.
    prior : float [C]
    weights : float [R, N]
    factors : float [R, C] or float
        By which each class's likelihood is multiplied.
    """
    share = np.broadcast_to(prior, (len(weights), len(prior))).copy()
    total = weights.sum(axis=1, keepdims=True)
    likelihood = probabilities / prior
    for _ in range(_STEPS):
        # Posterior of class c of study n is likelihood x share, over its sum: everything at once, without [R, N, C].
        scaled = share * factors
        evidence = weights / np.maximum(scaled @ likelihood.T, 1e-300)
        updated = scaled * (evidence @ likelihood) / total
        moved = np.abs(updated - share).max()
        share = updated
        if moved < _CLOSE:
            break
    return share


def _corrected(called: Floats, point: OperatingPoint, rng: np.random.Generator) -> Floats:
    sensitivity, specificity = (_drawn(one, len(called), rng) for one in (point.sensitivity, point.specificity))
    gain = sensitivity + specificity - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(gain > 0, np.clip((called - 1 + specificity) / gain, 0, 1), np.nan)


def _drawn(estimate: Estimate, count: int, rng: np.random.Generator) -> Floats:
    """The estimate itself, then draws from the normal distribution that has its interval."""
    spread = (estimate.high - estimate.low) / (2 * 1.96)
    draws = np.clip(rng.normal(estimate.value, spread, count), 0, 1)
    draws[0] = estimate.value
    return draws
