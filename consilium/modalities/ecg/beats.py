"""Heartbeats in what a model reads of a recording: where they are, and what their rhythm is. Without torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MOST_BEATS = 64
BEFORE, AFTER = 0.3, 0.5
"""Seconds of a beat around its largest deflection."""
RHYTHM: tuple[str, ...] = ("interval", "spread", "change", "jump", "unusual", "qrs", "p_wave", "between")
"""Log of the mean interval between beats; standard deviation, root mean square and median of the successive changes, as
shares of it; share of beats of another form; width of the QRS complex; how alike the beats are where the P wave stands,
and how much they differ there. Each about 0 in a regular rhythm of 75 a minute, and about 1 apart
where it is plainly not."""
_USUAL = 0.8
"""Correlation with the median beat of all leads from which on a beat is of the usual form."""
_SMOOTH = 0.08
_REFRACTORY = 0.25

Floats = npt.NDArray[np.float64]


def read_beats(samples: npt.NDArray[np.float32], rate: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Beats and rhythm of one recording.

    Parameters
    ----------
    samples : float32 [12, T]
        As the converter gives them.

    Returns
    -------
    peaks : int64 [MOST_BEATS]
        Positions of the beats of the usual form that are whole, -1 behind the last.
    rhythm : float32 [len(RHYTHM)]
        Zeros where there are too few beats.
    """
    there = samples[np.isfinite(samples).any(axis=1)].astype(np.float64)
    peaks = np.full(MOST_BEATS, -1, np.int64)
    if not len(there):
        return peaks, np.zeros(len(RHYTHM), np.float32)
    there = np.nan_to_num(there)
    energy = _energy(there, rate)
    found = _peaks(energy, rate)
    before, after = round(BEFORE * rate), round(AFTER * rate)
    whole = found[(found >= before) & (found < there.shape[1] - after)]
    if len(whole) < 2 or len(found) < 3:
        peaks[: len(whole)] = whole[:MOST_BEATS]
        return peaks, np.zeros(len(RHYTHM), np.float32)
    beats = np.stack([there[:, peak - before : peak + after] for peak in whole])  # [N, leads, W]
    alike = _alike(beats)
    usual = alike >= min(_USUAL, float(np.median(alike)))
    peaks[: min(MOST_BEATS, usual.sum())] = whole[usual][:MOST_BEATS]
    return peaks, _rhythm(found / rate, beats[usual], 1 - float(usual.mean()), rate)


def _energy(leads: Floats, rate: int) -> Floats:
    slopes = np.sqrt((np.diff(leads, axis=1, prepend=leads[:, :1]) ** 2).mean(axis=0))
    window = max(1, round(_SMOOTH * rate))
    smooth: Floats = np.convolve(slopes, np.hanning(window + 2)[1:-1], "same")
    return smooth


def _peaks(energy: Floats, rate: int) -> npt.NDArray[np.int64]:
    from scipy.signal import find_peaks

    usual = float(np.percentile(energy, 98))
    found, _ = find_peaks(energy, distance=round(_REFRACTORY * rate), height=0.35 * usual, prominence=0.3 * usual)
    return np.asarray(found, np.int64)


def _alike(beats: Floats) -> Floats:
    """Correlation of each beat [N, leads, W] with the median one."""
    flat = beats.reshape(len(beats), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    middle = np.median(flat, axis=0)
    size = np.linalg.norm(flat, axis=1) * np.linalg.norm(middle)
    return np.where(size > 0, flat @ middle / np.where(size > 0, size, 1), 0.0)


def _rhythm(times: Floats, beats: Floats, unusual: float, rate: int) -> npt.NDArray[np.float32]:
    intervals = np.diff(times)
    mean, changes = float(intervals.mean()), np.abs(np.diff(intervals))
    centre = round(BEFORE * rate)
    average = beats.mean(axis=0)
    energy = _energy(average, rate)
    high = energy[centre - round(0.12 * rate) : centre + round(0.16 * rate)]
    width = float((high > 0.25 * energy.max()).sum()) / rate if energy.max() > 0 else 0.0
    atrial = beats[:, :, : round((BEFORE - 0.08) * rate)]
    found = [
        2 * np.log(mean / 0.8),
        5 * float(intervals.std()) / mean,
        5 * float(np.sqrt((changes**2).mean())) / mean if len(changes) else 0.0,
        10 * float(np.median(changes)) / mean if len(changes) else 0.0,
        2 * unusual,
        20 * (width - 0.12),
        2 * (0.8 - float(np.median(_alike(atrial)))),
        2 * _between(beats, rate),
    ]
    return np.clip(np.array(found), -4, 4).astype(np.float32)


def _between(beats: Floats, rate: int) -> float:
    """What is left before the QRS complexes once the average beat is taken away, beside the size of the beats."""
    atrial = beats[:, :, : round((BEFORE - 0.08) * rate)]
    rest = atrial - atrial.mean(axis=0)
    whole = float(((beats - beats.mean(axis=2, keepdims=True)) ** 2).mean())
    return float(np.sqrt((rest - rest.mean(axis=2, keepdims=True)).var() / whole)) if whole > 0 else 0.0
