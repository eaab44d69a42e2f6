"""Calibration of the targets beside the findings: log-odds of steps become what is passed up to each.

What is calibrated is each step among those who came to it, by maximum likelihood: that is what censored studies can
tell, too, and what keeps a chance from rising with the grade or the time. Slopes and biases are those of
`consilium.calibration.scaling`, one of each for every step and modality subset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from consilium.calibration.scaling import Scaling, fit_scaling
from consilium.domain.errors import InputError, TrainingError
from consilium.domain.findings import Finding, FindingSet
from consilium.domain.targets import Target, step_slices
from consilium.modalities.registry import subset_key

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StepCalibration:
    """What turns log-odds of steps into chances.

    Attributes
    ----------
    scaling : Scaling
    prior_log_odds : tuple of float, [S]
        Of each step among those who came to it: the answer without any modality.
    """

    targets: tuple[Target, ...]
    scaling: Scaling
    prior_log_odds: tuple[float, ...]

    def passed(self, logits: npt.ArrayLike, subset: str) -> Floats:
        """Calibrated chance to pass each step and all before it of its target, [..., S]; rows of NaN stay NaN.

        Parameters
        ----------
        logits : array [..., S]
        subset : str
            As in `Calibration.probabilities`.
        """
        if subset == subset_key([]):
            each = np.broadcast_to(expit(self.prior_log_odds), np.shape(logits))
        else:
            each = expit(self.scaling(logits, subset))
        return np.concatenate([np.cumprod(each[..., own], axis=-1) for own in step_slices(self.targets)], axis=-1)

    def to_json(self) -> dict[str, Any]:
        return {"scaling": self.scaling.to_json(), "prior_log_odds": list(self.prior_log_odds)}

    @classmethod
    def from_json(cls, data: dict[str, Any], targets: tuple[Target, ...]) -> StepCalibration:
        return cls(targets, Scaling.from_json(data["scaling"]), tuple(data["prior_log_odds"]))

    def require_sound(self, name: str) -> None:
        """`InputError` unless all is finite and of every step; `name` is how the error calls it."""
        steps = sum(len(target.steps) for target in self.targets)
        self.scaling.require_sound(f"{name}.scaling", steps)
        if len(self.prior_log_odds) != steps or not np.isfinite(self.prior_log_odds).all():
            raise InputError(f"{name}.prior_log_odds", len(self.prior_log_odds), f"must be finite, of {steps} steps")


def fit_steps(targets: Sequence[Target], labels: Floats, logits: Mapping[str, Floats]) -> StepCalibration:
    """Fit on the calibration split.

    Parameters
    ----------
    labels : float64 [N, S]
        1 passed, 0 not, NaN did not come to it or unknown.
    logits : mapping of subset_key to float64 [N, S]
        Rows of NaN where the study lacks a modality of the subset.

    Raises
    ------
    TrainingError
        Where nobody passed a step, or nobody failed to.
    """
    passed, stopped = (labels == 1).sum(axis=0), (labels == 0).sum(axis=0)
    names = [(target.name, step) for target in targets for step in target.steps]
    for (target, step), some, others in zip(names, passed.tolist(), stopped.tolist(), strict=True):
        if not some or not others:
            raise TrainingError(
                f"{target}: of the calibration studies that came to the step {step!r}, {some} passed it and {others} "
                "did not; calibration needs both"
            )
    prior = np.log(passed + 0.5) - np.log(stopped + 0.5)  # Jeffreys
    as_findings = FindingSet(tuple(Finding(f"step_{number}", step) for number, (_, step) in enumerate(names)))
    scaling = fit_scaling(as_findings, labels, logits, prior)
    return StepCalibration(tuple(targets), scaling, tuple(prior.tolist()))
