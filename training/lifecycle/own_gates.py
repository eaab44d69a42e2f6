"""What a version must be by itself, by figures that its training has measured or that its artifact holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import binom, norm

from consilium.calibration import patient_bootstrap
from consilium.configuration.recipe import Recipe
from consilium.domain.diagnosis import AuditVerdict
from consilium.explain.methods import FAST
from consilium.modalities.weight_source import NOT_STATED, OWN, WeightSource
from consilium.network.diagnosis_model import FUSED
from training.evaluation.faithfulness.table import best_methods
from training.evaluation.metrics import BY_CHANCE, Sample, macro
from training.evaluation.out_of_distribution import ORDINARY
from training.evaluation.rows import ALL_PRESENT
from training.lifecycle.gate_file import (
    AuditGate,
    CalibrationGate,
    CoverageGate,
    FaithfulnessGate,
    LicenceGate,
    OutOfDistributionGate,
    SizeGate,
)
from training.lifecycle.gate_results import GateResult
from training.pipeline.compare_models import Answers

Tables = Mapping[str, pd.DataFrame]

_BAND_MISSED = 0.05
"""Chance that a coverage lies outside of its band (`training.evaluation.coverage`)."""
_LEAST = 1e-9
_SEPARATED = 1e10
"""Condition of the information where one class lies above the other: the likelihood grows without end."""


def calibration_gates(wanted: CalibrationGate, answers: Answers) -> list[GateResult]:
    """Calibration error, mean over findings, and the slope of each."""
    sample = Sample(answers.labels, patient_bootstrap(answers.patient_ids, 1, 0))
    figures = macro(sample.measure(answers.probabilities)).figures
    ece, chance = float(figures["ece"][0]), float(figures[BY_CHANCE][0])
    excess = GateResult.of(
        "calibration error",
        ece - chance <= wanted.ece_above_chance,
        f"ECE {ece:.3f}, of which chance {chance:.3f}",
        f"at most {wanted.ece_above_chance:g} above chance",
        {"ece": ece, "ece_by_chance": chance},
    )
    return [excess, _slopes(wanted, answers)]


def _slopes(wanted: CalibrationGate, answers: Answers) -> GateResult:
    low, high = wanted.slope
    bound = float(norm.isf(0.025 / len(answers.findings)))
    found = {}
    for f, name in enumerate(answers.findings):
        known = ~np.isnan(answers.labels[:, f]) & ~np.isnan(answers.probabilities[:, f])
        found[name] = calibration_slope(answers.labels[known, f] == 1, answers.probabilities[known, f])
    outside = [
        name for name, (slope, error) in found.items() if slope + bound * error < low or slope - bound * error > high
    ]
    text = ", ".join(f"{name} {slope:.2f} ± {error:.2f}" for name, (slope, error) in found.items())
    demanded = f"within {low:g} to {high:g}, beyond chance"
    figures = {name: slope for name, (slope, _) in found.items() if np.isfinite(slope)}
    return GateResult.of("calibration slope", not outside, text, demanded, figures)


def calibration_slope(positive: npt.NDArray[np.bool_], probabilities: npt.NDArray) -> tuple[float, float]:
    """Slope of the labels' log-odds over the probabilities', and its standard error; 1 is calibrated, less too extreme.

    By maximum likelihood, studies taken as independent (Cox, Biometrika 1958). NaN and an endless error where a class
    is missing or the fit has no end.
    """
    if not 0 < positive.sum() < len(positive):
        return float("nan"), float("inf")
    x = logit(np.clip(probabilities, _LEAST, 1 - _LEAST))
    design = np.column_stack([np.ones_like(x), x])

    def gradient(beta: npt.NDArray) -> npt.NDArray:
        return design.T @ (expit(design @ beta) - positive)

    def information(beta: npt.NDArray) -> npt.NDArray:
        mean = expit(design @ beta)
        return design.T @ (design * (mean * (1 - mean))[:, None])

    def surprise(beta: npt.NDArray) -> float:
        eta = design @ beta
        return float(np.logaddexp(0, np.where(positive, -eta, eta)).sum())

    found = minimize(surprise, np.zeros(2), jac=gradient, hess=information, method="trust-exact")
    last = information(found.x)
    if not np.isfinite(found.x).all() or np.linalg.cond(last) > _SEPARATED:
        return float("nan"), float("inf")
    return float(found.x[1]), float(np.sqrt(np.linalg.inv(last)[1, 1]))


def coverage_gate(wanted: CoverageGate, tables: Tables) -> GateResult:
    """Not more coverages outside of their bands than chance leaves there."""
    lines = tables["coverage"]
    lines = lines[(lines["subset"] == ALL_PRESENT) & lines["in_band"].notna()]
    outside, count = int((~lines["in_band"].astype(bool)).sum()), len(lines)
    most = int(binom.isf(wanted.chance, count, _BAND_MISSED))
    figures = {"outside": outside, "measured": count}
    return GateResult.of(
        "coverage", outside <= most, f"{outside} of {count} outside of their bands", f"at most {most}", figures
    )


def audit_gate(wanted: AuditGate, found: AuditVerdict) -> GateResult:
    return GateResult.of("audit", found.verdict in wanted.verdicts, found.verdict, " or ".join(wanted.verdicts))


def out_of_distribution_gate(wanted: OutOfDistributionGate, tables: Tables, recipe: Recipe) -> GateResult:
    """Every kind of far input noticed, and ordinary studies flagged about as often as the recipe says."""
    demanded = f"AUROC of far inputs at least {wanted.far_auroc:g}"
    rate = recipe.refer.out_of_distribution
    if rate is None or "out_of_distribution" not in tables:
        why = "the recipe has evaluation.out_of_distribution: 0" if rate is not None else "the recipe refers none by it"
        return GateResult.unmeasured("out of distribution", why, demanded, required=wanted.required)
    lines = tables["out_of_distribution"]
    far = lines[(lines["distance"] == "far") & (lines["part"] != FUSED)]
    ordinary = lines[(lines["distance"] == ORDINARY)]
    worst = far.sort_values("auroc").iloc[0] if len(far) else None
    # Of few ordinary studies, chance alone flags some.
    most = [float(binom.isf(0.001, n, min(1.0, wanted.flagged_times * rate))) / n for n in ordinary["n"].astype(int)]
    flagged = ordinary["flagged"].astype(float)
    calm = bool((flagged <= most).all())
    seen = worst is None or float(worst["auroc"]) >= wanted.far_auroc
    text = "no far input" if worst is None else f"least noticed {worst['kind']} {float(worst['auroc']):.3f}"
    highest = float(flagged.max()) if len(flagged) else 0.0
    return GateResult.of(
        "out of distribution",
        seen and calm,
        f"{text}; ordinary flagged up to {highest:.3f}",
        f"{demanded}; ordinary flagged not above {wanted.flagged_times * rate:g}, beyond chance",
        {"flagged": highest} | ({} if worst is None else {"far_auroc": float(worst["auroc"])}),
    )


def faithfulness_gate(wanted: FaithfulnessGate, tables: Tables) -> GateResult:
    """Each measured modality has a fast method whose explanations depend on what the model has learned."""
    demanded = "each modality has an explanation that an untrained model does not give"
    if "faithfulness" not in tables:
        why = "the recipe has evaluation.faithfulness: 0"
        return GateResult.unmeasured("faithfulness", why, demanded, required=wanted.required)
    table = tables["faithfulness"]
    best = best_methods(table, FAST)
    parts = [name for name in dict.fromkeys(table["part"]) if name in set(best) | _explained(table)]
    lacking = [name for name in parts if name not in best]
    text = ", ".join(f"{name}: {best.get(name, 'none')}" for name in parts)
    return GateResult.of("faithfulness", not lacking, text, demanded)


def _explained(table: pd.DataFrame) -> set[str]:
    """Modalities of which any method was measured against an untrained model."""
    return set(table.loc[table["metric"] == "sanity", "part"])


def size_gate(wanted: SizeGate, folder: Path) -> GateResult:
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    text, demanded = f"{size:.1f} MB", f"at most {wanted.artifact_mb:g} MB"
    return GateResult.of("size", size <= wanted.artifact_mb, text, demanded, {"mb": size})


def licence_gate(wanted: LicenceGate, sources: Mapping[str, Sequence[WeightSource]]) -> GateResult:
    """Every source of pretrained weights has a licence that is allowed, or at least one that is stated."""
    demanded = "any that is stated" if wanted.allowed is None else f"of {', '.join(wanted.allowed)}"
    every = [source for of in sources.values() for source in of]
    if not every:
        return GateResult.not_applicable("licences", "no pretrained weights", demanded)
    allowed = None if wanted.allowed is None else {OWN, *(name.casefold() for name in wanted.allowed)}
    refused = [
        f"{source.source}: {source.licence}"
        for source in every
        if (source.licence == NOT_STATED if allowed is None else source.licence.casefold() not in allowed)
    ]
    text = "; ".join(refused) if refused else ", ".join(sorted({source.licence for source in every}))
    return GateResult.of("licences", not refused, text, demanded)


def tables_of(document: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """The tables of an ``evaluation.json``."""
    return {name: pd.DataFrame(lines) for name, lines in document["tables"].items()}
