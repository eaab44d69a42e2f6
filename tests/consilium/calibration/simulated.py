"""Logits of simulated models, of which the best answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import logit

from consilium.calibration import Calibration, fit_calibration
from consilium.configuration.recipe import CalibrationRecipe
from consilium.domain.findings import Finding, FindingSet
from consilium.modalities.registry import nonempty_subsets, subset_key
from tests.consilium.tiny import THREE

FINDINGS = FindingSet((Finding("pneumonia", "Pneumonia"), Finding("effusion", "Effusion")))
CLASSES = FindingSet((Finding("viral", "Viral"), Finding("bacterial", "Bacterial"), Finding("none", "None")), True)
SUBSETS = [subset_key(subset) for subset in nonempty_subsets(THREE)]
SHIFT = {subset: 0.8 * (subset.count("+") - 1) for subset in SUBSETS}
"""What the simulated model adds to the true log-odds of each subset, before it stretches them."""
STRETCH = {subset: 1 + subset.count("+") / 2 for subset in SUBSETS}


def simulate(
    findings: FindingSet,
    studies: int,
    seed: int,
    missing: float = 0.2,
    bent: float = 1.0,
    prevalence: tuple[float, ...] | None = None,
) -> dict[str, Any]:
    """Labels and logits of a model that stretches and shifts the true log-odds by subset and finding.

    `bent` is an exponent besides: no scaling undoes it.
    """
    rng = np.random.default_rng(seed)
    count = len(findings)
    if findings.exclusive:
        chances = np.array(prevalence or (0.5, 0.3, 0.2))
        labels = np.eye(count)[rng.choice(count, size=studies, p=chances)]
        prior = np.log([0.5, 0.3, 0.2])
    else:
        chances = np.array(prevalence or (0.4, 0.2))
        labels = (rng.random((studies, count)) < chances).astype(float)
        prior = logit([0.4, 0.2])
    # Evidence e ~ N(label, 1) carries the log-likelihood ratio e - 1/2, for a softmax e alone.
    evidence = {m: rng.normal(size=labels.shape) + labels - 0.5 for m in THREE}
    present = dict(zip(THREE, (rng.random((studies, 3)) > missing).T, strict=True))
    fused = {}
    for subset in nonempty_subsets(THREE):
        have = np.all([present[m] for m in subset], axis=0)
        truth = prior + sum(evidence[m] for m in subset)
        key = subset_key(subset)
        scores = STRETCH[key] * (truth + SHIFT[key] * np.linspace(1, -1, count))
        fused[key] = np.where(have[:, None], np.sign(scores) * np.abs(scores) ** bent, np.nan)
    unimodal = {m: np.where(there[:, None], 3 * (prior + evidence[m]) + 1, np.nan) for m, there in present.items()}
    return {"labels": labels, "fused": fused, "unimodal": unimodal, "present": present, "prevalence": chances}


def fit(findings: FindingSet, case: dict[str, Any], **changes: Any) -> Calibration:
    """A calibration of `case`; `changes` are of the arguments or, by name, of the recipe."""
    arguments = {
        "labels": case["labels"],
        "patient_ids": np.arange(len(case["labels"])),
        "fused": case["fused"],
        "unimodal": case["unimodal"],
        "present": case["present"],
        "seed": 1,
        "bootstrap": 50,
    }
    recipe = {name: changes.pop(name) for name in list(changes) if name in CalibrationRecipe.model_fields}
    return fit_calibration(findings, **(arguments | changes), recipe=CalibrationRecipe(**recipe))


def calibration_gap(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean distance of frequency and probability over ten bins of equal mass; rows of NaN are left out."""
    known = ~np.isnan(probabilities)
    p, y = probabilities[known], labels[known]
    bins = np.array_split(np.argsort(p), 10)
    return float(np.mean([abs(p[b].mean() - y[b].mean()) for b in bins]))
