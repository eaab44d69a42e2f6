"""Predictions of a simulated model whose best possible answer is known in closed form."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit, logit

from consilium.domain.findings import Finding, FindingSet
from consilium.modalities.registry import nonempty_subsets, subset_key
from tests.consilium.tiny import THREE
from training.evaluation.predictions import Predictions

FINDINGS = FindingSet((Finding("pneumonia", "Pneumonia"), Finding("effusion", "Pleural effusion")))
PREVALENCE = np.array([0.4, 0.25])
D_PRIME = 1.4


@dataclass(frozen=True)
class KnownOracle:
    study_ids: np.ndarray
    posteriors: dict[str, np.ndarray]
    passed: dict[str, np.ndarray] = field(default_factory=dict)


def simulate(
    studies: int,
    seed: int,
    *,
    noise: float = 0.7,
    missing: float = 0.2,
    unknown: float = 0.05,
    leak: float = 0.0,
    prevalence: np.ndarray = PREVALENCE,
) -> tuple[Predictions, KnownOracle]:
    """Independent Gaussian evidence per modality; the model sees it through `noise`, with `leak` times the label added.

    The oracle lists the studies in another order, with some more.
    """
    rng = np.random.default_rng(seed)
    shape = (studies, len(FINDINGS))
    truth = (rng.random(shape) < prevalence).astype(float)
    ratios = {m: D_PRIME * (rng.normal(size=shape) + D_PRIME * truth - D_PRIME / 2) for m in THREE}
    seen = {m: ratio + noise * rng.normal(size=shape) + leak * truth for m, ratio in ratios.items()}
    present = dict(zip(THREE, (rng.random((studies, 3)) >= missing).T, strict=True))
    fused, posteriors = {}, {}
    for subset in nonempty_subsets(THREE):
        have = np.all([present[m] for m in subset], axis=0)[:, None]
        fused[subset_key(subset)] = np.where(have, 1.7 * sum(seen[m] for m in subset) - 1, np.nan)
        posteriors[subset_key(subset)] = expit(logit(prevalence) + sum(ratios[m] for m in subset))
    unimodal = {m: np.where(there[:, None], 2 * seen[m], np.nan) for m, there in present.items()}
    ids = np.array([f"{seed}-{i}" for i in range(studies)])
    order = rng.permutation(studies)
    oracle = KnownOracle(
        np.append(ids[order], "another"),
        {subset: np.concatenate([values[order], [[0.5, 0.5]]]) for subset, values in posteriors.items()},
    )
    labels = np.where(rng.random(shape) < unknown, np.nan, truth)
    patients = np.array([f"{seed}-{i // 2}" for i in range(studies)])
    return Predictions(ids, patients, labels, present, fused, unimodal), oracle
