"""Calibration: what turns a model's logits into probabilities and calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, logsumexp, softmax

from consilium.calibration.operating_points import operating_point, patient_bootstrap
from consilium.calibration.scaling import Floats, Scaling, fit_scaling
from consilium.diagnosis import OperatingPoint
from consilium.errors import InputError, TrainingError
from consilium.findings import FindingSet
from consilium.study import Modality, subset_key

NO_MODALITY = subset_key([])
"""The empty subset, for which the answer is the prior."""

_KIND = "scale-bias-offset"
_MOST_LOG_ODDS = 30.0  # beyond it 1 - p has lost half of its digits


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns a model's logits into probabilities.

    Attributes
    ----------
    fused : Scaling
        For the fused logits, any modality subset.
    alone : dict
        For each modality's own head.
    prior_log_odds : tuple of float, [F]
        Log-odds of the prevalence in the calibration split: the answer before any modality is heard.
    operating_points : tuple of OperatingPoint, [F]
    studies : int
        Size of the calibration split.
    """

    findings: FindingSet
    fused: Scaling
    alone: dict[Modality, Scaling]
    prior_log_odds: tuple[float, ...]
    operating_points: tuple[OperatingPoint, ...]
    studies: int

    @property
    def thresholds(self) -> Floats:
        """Probability from which each finding is called, [F]."""
        return np.array([point.threshold for point in self.operating_points])

    def probabilities(self, logits: npt.ArrayLike, subset: str) -> Floats:
        """Calibrated probabilities, [..., F], of fused logits [..., F]; rows of NaN (not heard) stay NaN.

        Parameters
        ----------
        logits : array [..., F]
        subset : str
            `subset_key` of the modalities that were heard; for ``none`` the answer is the prior, whatever the logits.

        Raises
        ------
        InputError
            Where this calibration knows no such subset.
        """
        if subset == NO_MODALITY:
            return np.broadcast_to(expit(self.prior_log_odds), np.shape(logits)).copy()
        return self._probabilities(self.fused(logits, subset))

    def log_odds(self, logits: npt.ArrayLike, subset: str) -> Floats:
        """Log-odds of `probabilities`, [..., F], within ±30; for ``none`` `prior_log_odds`."""
        if subset == NO_MODALITY:
            return np.broadcast_to(self.prior_log_odds, np.shape(logits)).copy()
        return self._log_odds(self.fused(logits, subset))

    def opinion(self, logits: npt.ArrayLike, modality: Modality) -> Floats:
        """Calibrated probabilities, [..., F], of one modality's own head; rows of NaN stay NaN."""
        if modality not in self.alone:
            raise InputError("modality", str(modality), f"must be one of {', '.join(self.alone)}")
        return self._probabilities(self.alone[modality](logits, modality.value))

    def _log_odds(self, scaled: Floats) -> Floats:
        if self.findings.exclusive:
            others = [logsumexp(np.delete(scaled, k, axis=-1), axis=-1) for k in range(len(self.findings))]
            scaled = scaled - np.stack(others, axis=-1)
        return np.clip(scaled, -_MOST_LOG_ODDS, _MOST_LOG_ODDS)

    def _probabilities(self, scaled: Floats) -> Floats:
        return softmax(scaled, axis=-1) if self.findings.exclusive else expit(self._log_odds(scaled))

    def to_json(self) -> dict[str, Any]:
        """Everything, for `json.dumps`: floats come back to the bit."""
        return {
            "kind": _KIND,
            "findings": self.findings.to_json(),
            "fused": self.fused.to_json(),
            "alone": {modality.value: scaling.to_json() for modality, scaling in self.alone.items()},
            "prior_log_odds": list(self.prior_log_odds),
            "operating_points": [point.to_json() for point in self.operating_points],
            "studies": self.studies,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Calibration:
        """The calibration that `to_json` described; `InputError` where `data` is none."""
        if not isinstance(data, dict) or data.get("kind") != _KIND:
            kind = data.get("kind") if isinstance(data, dict) else data
            raise InputError("calibration.kind", kind, f"must be {_KIND}")
        try:
            calibration = cls(
                FindingSet.from_json(data["findings"]),
                Scaling.from_json(data["fused"]),
                {Modality(name): Scaling.from_json(scaling) for name, scaling in data["alone"].items()},
                tuple(data["prior_log_odds"]),
                tuple(OperatingPoint.from_json(point) for point in data["operating_points"]),
                data["studies"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError("calibration", type(error).__name__, "must be what a calibration was saved as") from None
        calibration._require_sound()
        return calibration

    def _require_sound(self) -> None:
        for name, scaling in {"fused": self.fused, **{m.value: s for m, s in self.alone.items()}}.items():
            rows = np.array([scaling.scale, scaling.bias, *scaling.offsets.values()], np.float64)
            if rows.shape[1] != len(self.findings) or not np.isfinite(rows).all() or rows[0].min() <= 0:
                raise InputError(f"calibration.{name}", rows.shape, "must be finite, per finding, with scales above 0")
        if not len(self.prior_log_odds) == len(self.operating_points) == len(self.findings):
            raise InputError("calibration", len(self.prior_log_odds), f"must be of {len(self.findings)} findings")


def fit_calibration(
    findings: FindingSet,
    labels: npt.NDArray,
    patient_ids: npt.NDArray,
    fused: Mapping[str, npt.NDArray],
    opinions: Mapping[Modality, npt.NDArray],
    *,
    present: npt.NDArray[np.bool_],
    target_sensitivity: float,
    seed: int,
    bootstrap: int,
) -> Calibration:
    """Fit on the calibration split, in which each study speaks through every subset of the modalities it has.

    Parameters
    ----------
    labels : float [N, F]
        1 present, 0 absent, NaN unknown.
    patient_ids : [N]
    fused : mapping of subset_key to float [N, F]
        Logits; rows of NaN where the study lacks a modality of the subset.
    opinions : mapping of Modality to float [N, F]
        Logits of each modality's own head; rows of NaN where the study lacks it.
    present : bool [N, M]
        In the order of `Modality`.
    target_sensitivity : float
        Of the operating points, on the predictions from what each study has.
    bootstrap : int
        Replicates over patients, for the operating points' intervals.

    Raises
    ------
    TrainingError
        Where a finding has no positive or no negative study, a modality no study with a known label, or a logit is
        infinite.
    """
    labels = np.asarray(labels, np.float64)
    _require_both_classes(findings, labels)
    prior = _prior_log_odds(findings, labels)
    rows = {subset: np.asarray(values, np.float64) for subset, values in fused.items()}
    alone = {
        modality: fit_scaling(findings, labels, {modality.value: np.asarray(values, np.float64)}, prior)
        for modality, values in opinions.items()
    }
    # The operating points need probabilities, so they are made by the calibration without them.
    bare = Calibration(findings, fit_scaling(findings, labels, rows, prior), alone, tuple(prior.tolist()), (), 0)
    heard = np.stack([bare.probabilities(values, subset) for subset, values in rows.items()])
    chosen = np.array([list(rows).index(subset) if subset in rows else -1 for subset in heard_subsets(rows, present)])
    probabilities = np.where((chosen >= 0)[:, None], heard[chosen, np.arange(len(labels))], np.nan)
    weights = patient_bootstrap(patient_ids, bootstrap, seed)
    points = tuple(
        operating_point(labels[:, f], probabilities[:, f], target_sensitivity, weights) for f in range(len(findings))
    )
    return Calibration(findings, bare.fused, alone, bare.prior_log_odds, points, len(labels))


def heard_subsets(fused: Mapping[str, npt.NDArray], present: npt.NDArray[np.bool_]) -> list[str]:
    """Key of what each study has, [N], of the modalities that occur in `fused`; ``none`` where it has nothing.

    Parameters
    ----------
    fused : mapping of subset_key to array
    present : bool [N, M]
        In the order of `Modality`.
    """
    known = {name for subset in fused for name in subset.split("+")}
    return [subset_key(m for m, there in zip(Modality, row, strict=True) if there and m in known) for row in present]


def _require_both_classes(findings: FindingSet, labels: Floats) -> None:
    if labels.ndim != 2 or labels.shape[1] != len(findings):
        raise TrainingError(f"calibration labels must be [N, {len(findings)}], got {list(labels.shape)}")
    if findings.exclusive and ((np.nansum(labels, axis=1) > 1) | (labels == 0).all(axis=1)).any():
        raise TrainingError("findings exclude each other, but a calibration study has none or several of them")
    for finding, column in zip(findings, labels.T, strict=True):
        positive, negative = int((column == 1).sum()), int((column == 0).sum())
        if not positive or not negative:
            raise TrainingError(
                f"the calibration split has {positive} positive and {negative} negative studies of {finding.name}; "
                "calibration needs both"
            )


def _prior_log_odds(findings: FindingSet, labels: Floats) -> Floats:
    """Log-odds of the prevalence among known labels; half a study is added to each class (Jeffreys)."""
    positive = (labels == 1).sum(axis=0) + 0.5
    if findings.exclusive:
        return logit(positive / positive.sum())
    return np.log(positive) - np.log((labels == 0).sum(axis=0) + 0.5)
