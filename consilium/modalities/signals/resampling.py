"""Signals at another rate. Without torch."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_FINEST = 1000
"""Largest denominator of the ratio of two rates."""


def resampled(samples: Floats, rate: float, wanted: float) -> tuple[Floats, float]:
    """`samples` [..., T] of `rate` at the rate `wanted`, and by what ratio of whole numbers that was done."""
    from scipy.signal import resample_poly

    ratio = Fraction(wanted / rate).limit_denominator(_FINEST)
    found: Floats = resample_poly(samples, ratio.numerator, ratio.denominator, axis=-1)
    return found, float(ratio)
