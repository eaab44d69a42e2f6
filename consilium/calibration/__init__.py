"""Logits become probabilities, intervals, sets and calls here and nowhere else.

Fitted on studies that the model has not learned from. Open `probabilities` first: `Calibration`, what every caller
asks. `fitting` makes one: `patients` deals out which patients fit and which validate, `selection` chooses the method,
`calibrator` fits it (`scaling`, and the `curves` of isotonic regression and Venn-Abers above it), `conformal` makes
sets and intervals (`venn_abers` the latter), `operating_points` the thresholds from which a finding is called. `steps`
is for grades and times beside the findings.
"""

from consilium.calibration.calibrator import METHODS, Calibrator, fit_calibrator
from consilium.calibration.conformal import Conformal, HeldOutGroup, quantile_rank
from consilium.calibration.fitting import fit_calibration, present_subsets
from consilium.calibration.operating_points import operating_point, patient_bootstrap, percentile_interval
from consilium.calibration.probabilities import NO_MODALITY, Calibration
from consilium.calibration.scaling import Scaling, Shrinkage, fit_scaling
from consilium.calibration.selection import Choice, choose
from consilium.calibration.steps import StepCalibration, fit_steps

__all__ = [
    "METHODS",
    "NO_MODALITY",
    "Calibration",
    "Calibrator",
    "Choice",
    "Conformal",
    "HeldOutGroup",
    "Scaling",
    "Shrinkage",
    "StepCalibration",
    "choose",
    "fit_calibration",
    "fit_calibrator",
    "fit_scaling",
    "fit_steps",
    "operating_point",
    "patient_bootstrap",
    "percentile_interval",
    "present_subsets",
    "quantile_rank",
]
