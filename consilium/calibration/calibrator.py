"""Calibrator: from logits to log-odds by one of the methods.

Every method begins with the scaling, which brings the modality subsets onto one scale; isotonic regression and
Venn-Abers bend the scaled log-odds of all subsets by one curve per finding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_expit, logsumexp

from consilium.calibration.curves import Curve, isotonic_curve, venn_abers_curve
from consilium.calibration.scaling import DEFAULT_SHRINKAGE, Scaling, Shrinkage, fit_scaling, gathered
from consilium.domain.errors import InputError
from consilium.domain.findings import FindingSet

Floats = npt.NDArray[np.float64]

SCALING, VECTOR, ISOTONIC, VENN_ABERS = METHODS = ("scaling", "vector", "isotonic", "venn_abers")
MOST_LOG_ODDS = 30.0  # beyond it 1 - p has lost half of its digits

CURVES = {ISOTONIC: isotonic_curve, VENN_ABERS: venn_abers_curve}


@dataclass(frozen=True, slots=True)
class Calibrator:
    """From logits to log-odds.

    Attributes
    ----------
    curves : tuple of Curve, [F] or []
        Applied to the scaled log-odds; empty where the scaling is all.
    """

    scaling: Scaling
    curves: tuple[Curve, ...] = ()

    def __call__(self, logits: npt.ArrayLike, subset: str, *, exclusive: bool) -> Floats:
        """Calibrated scores, [..., F]: log-odds; of findings that exclude each other what a softmax is taken of."""
        scaled = self.scaling(logits, subset)
        if not self.curves:
            return scaled
        scaled = log_odds(scaled, exclusive=exclusive)
        bent = np.stack([curve(scaled[..., f]) for f, curve in enumerate(self.curves)], axis=-1)
        # One class against the others each, then brought to a sum of 1 (Zadrozny and Elkan, KDD 2002).
        return log_expit(bent) if exclusive else bent

    def to_json(self) -> dict[str, Any]:
        return {"scaling": self.scaling.to_json(), "curves": [curve.to_json() for curve in self.curves]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Calibrator:
        return cls(Scaling.from_json(data["scaling"]), tuple(Curve.from_json(curve) for curve in data["curves"]))

    def require_sound(self, name: str, findings: int) -> None:
        """`InputError` unless all is finite, rising and of `findings` findings; `name` is how the error calls it."""
        self.scaling.require_sound(f"{name}.scaling", findings)
        if len(self.curves) not in {0, findings}:
            raise InputError(f"{name}.curves", len(self.curves), f"must be none or {findings}")
        for curve in self.curves:
            curve.require_sound(f"{name}.curves")


def log_odds(scores: Floats, *, exclusive: bool) -> Floats:
    """Log-odds, [..., F], within ±30, of calibrated `scores`."""
    if exclusive:
        others = [logsumexp(np.delete(scores, k, axis=-1), axis=-1) for k in range(scores.shape[-1])]
        scores = scores - np.stack(others, axis=-1)
    return np.clip(scores, -MOST_LOG_ODDS, MOST_LOG_ODDS)


def fit_calibrator(
    method: str,
    findings: FindingSet,
    labels: Floats,
    logits: Mapping[str, Floats],
    prior: Floats,
    shrinkage: Shrinkage = DEFAULT_SHRINKAGE,
) -> Calibrator:
    """Fit `method`, one of `METHODS`, to `labels` [N, F] (NaN unknown) and `logits` [N, F] per subset.

    `shrinkage` and the rest as `fit_scaling`.

    Raises
    ------
    TrainingError
        As `fit_scaling`.
    """
    scaling = fit_scaling(findings, labels, logits, prior, per_class=method == VECTOR, shrinkage=shrinkage)
    return bend(method, scaling, findings, labels, logits) if method in CURVES else Calibrator(scaling)


def bend(
    method: str, scaling: Scaling, findings: FindingSet, labels: Floats, logits: Mapping[str, Floats]
) -> Calibrator:
    """`scaling` with a curve per finding by `method`, one of `CURVES`, of the same studies."""
    scaled = {s: log_odds(scaling(values, s), exclusive=findings.exclusive) for s, values in logits.items()}
    any_present = np.any([~np.isnan(values[:, 0]) for values in scaled.values()], axis=0)
    curves = []
    for f in range(len(findings)):
        known = ~np.isnan(labels[:, f])
        column = {subset: values[:, [f]] for subset, values in scaled.items()}
        scores, _, truth = gathered(column, labels[:, [f]], known)
        rows_a_study = len(scores) / max(int((any_present & known).sum()), 1)
        curves.append(CURVES[method](scores[:, 0], truth[:, 0] == 1, rows_a_study))
    return Calibrator(scaling, tuple(curves))
