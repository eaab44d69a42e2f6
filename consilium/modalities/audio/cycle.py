"""What repeats in a sound, as heartbeats and breaths do: how fast, how regularly, with what between. Without torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

CYCLE: tuple[str, ...] = ("interval", "regularity", "second_at", "second")
"""Log of the time from one cycle to the next; how alike successive ones are; when within a cycle the loudness most
nearly repeats, as the second heart sound follows the first, and how much. Each about 0 in a heart that beats regularly
75 times a minute, and about 1 apart where it plainly does not."""
_SHORTEST, _LONGEST = 0.35, 1.7
_USUAL_SECONDS, _USUAL_REGULARITY, _USUAL_AT, _USUAL_SECOND = 0.8, 0.5, 0.4, 0.1
_FIRST, _LAST = 0.2, 0.5
"""Of a cycle, where the second sound is looked for."""


def read_cycle(spectra: npt.NDArray[np.float32], step: float) -> npt.NDArray[np.float32]:
    """`CYCLE` of one sound, float32 [4]; zeros where nothing can repeat.

    Parameters
    ----------
    spectra : float32 [bands, frames]
        As the converter gives them.
    step : float
        Seconds from one frame to the next.
    """
    loudness = spectra[:, np.isfinite(spectra).all(axis=0)].mean(axis=0).astype(np.float64)
    first, last = round(_SHORTEST / step), round(_LONGEST / step)
    if len(loudness) < 2 * last or loudness.std() == 0:
        return np.zeros(len(CYCLE), np.float32)
    alike = _autocorrelation(loudness)[: last + 1]
    # The first of nearly equal maxima: two cycles are as alike as one.
    best = alike[first:].max()
    lag = first + int(np.argmax(alike[first:] >= 0.85 * best)) if best > 0 else first + int(alike[first:].argmax())
    while lag < last and alike[lag + 1] > alike[lag]:
        lag += 1
    low, high = round(_FIRST * lag), max(round(_FIRST * lag) + 1, round(_LAST * lag))
    second = low + int(alike[low:high].argmax())
    found = [
        2 * np.log(lag * step / _USUAL_SECONDS),
        2 * (alike[lag] - _USUAL_REGULARITY),
        5 * (second / lag - _USUAL_AT),
        2 * (alike[second] - _USUAL_SECOND),
    ]
    return np.clip(np.array(found), -4, 4).astype(np.float32)


def _autocorrelation(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    centred = x - x.mean()
    power = np.abs(np.fft.rfft(centred, 2 * len(x))) ** 2
    found: npt.NDArray[np.float64] = np.fft.irfft(power)[: len(x)]
    return found / found[0] * len(x) / (len(x) - np.arange(len(x)))
