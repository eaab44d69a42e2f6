"""How loud a sound is in each band of frequency over time. Without torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_FINEST_HZ = 8.0
"""Distance of the lines of a spectrum at most, so that narrow bands have one."""
_FLOOR = 1e-5
"""Power that is added before the logarithm, as a share of the whole sound's mean power in a band."""


def mel_of(hertz: Floats | float) -> Floats:
    """Frequency on the mel scale (O'Shaughnessy 1987)."""
    return 2595 * np.log10(1 + np.asarray(hertz, np.float64) / 700)


def hertz_of(mel: Floats | float) -> Floats:
    """The frequency of a place on the mel scale."""
    return 700 * (10 ** (np.asarray(mel, np.float64) / 2595) - 1)


def mel_edges(low: float, high: float, bands: int) -> Floats:
    """Frequencies, Hz, between which and above which `bands` triangles lie, [bands + 2]."""
    return hertz_of(np.linspace(mel_of(low), mel_of(high), bands + 2))


@dataclass(frozen=True, slots=True)
class Spectrogram:
    """Logarithm of the power in bands, of windows one after the other.

    Attributes
    ----------
    rate : int
        Samples a second.
    low, high : float
        Hertz.
    bands : int
    window, hop : int
        Samples.
    """

    rate: int
    low: float
    high: float
    bands: int
    window: int
    hop: int

    @property
    def length(self) -> int:
        """Samples of a window with the zeros behind it."""
        return int(2 ** np.ceil(np.log2(max(self.window, self.rate / _FINEST_HZ))))

    def frames(self, samples: int) -> int:
        """How many windows lie within so many samples."""
        return max(0, (samples - self.window) // self.hop + 1)

    def weights(self) -> Floats:
        """What each line of a spectrum counts for each band, [bands, lines]: triangles of height 1."""
        lines = np.fft.rfftfreq(self.length, 1 / self.rate)
        edges = mel_edges(self.low, self.high, self.bands)
        rising = (lines - edges[:-2, None]) / np.diff(edges)[:-1, None]
        falling = (edges[2:, None] - lines) / np.diff(edges)[1:, None]
        return np.clip(np.minimum(rising, falling), 0, None)

    def __call__(self, samples: Floats) -> Floats:
        """Of `samples` [T], float64 [bands, frames]; of a sound that is louder throughout the same, but for a shift."""
        shape = (self.bands, self.frames(len(samples)))
        if not shape[1]:
            return np.zeros(shape)
        windows = np.lib.stride_tricks.sliding_window_view(samples, self.window)[:: self.hop]
        spectra = np.abs(np.fft.rfft(windows * np.hanning(self.window + 2)[1:-1], self.length)) ** 2
        power = self.weights() @ spectra.T
        return np.log(power + _FLOOR * power.mean() + np.finfo(float).tiny)
