"""Logits become probabilities here and nowhere else.

Fitted on studies that the model has not learned from: `probabilities` holds `Calibration` (open it first) and its fit,
`scaling` the map from logits to log-odds, `operating_points` the thresholds from which a finding is called.
"""

from consilium.calibration.operating_points import operating_point, patient_bootstrap, percentile_interval
from consilium.calibration.probabilities import NO_MODALITY, Calibration, fit_calibration, heard_subsets
from consilium.calibration.scaling import Scaling, fit_scaling

__all__ = [
    "NO_MODALITY",
    "Calibration",
    "Scaling",
    "fit_calibration",
    "fit_scaling",
    "heard_subsets",
    "operating_point",
    "patient_bootstrap",
    "percentile_interval",
]
