"""A sound as the array that models read: the spectrogram of what lies in a band, of one length. Without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.modalities.audio.section import AudioSection
from consilium.modalities.audio.sound_record import Sound
from consilium.modalities.audio.spectrogram import Spectrogram
from consilium.modalities.converter import Converter
from consilium.modalities.signals.resampling import resampled

SPECTRA = "spectra"
_MARGIN_SECONDS = 0.5
"""Read on either side of what is kept, where filters swing in."""
_ORDER = 3
_HIGHEST = 0.49
"""Of the rate of a sound, up to which it holds anything."""


class SoundConverter(Converter):
    """A sound as float32 [bands, frames], the logarithm of its power with mean 0 and spread 1; NaN where there is none.

    So neither how loud it is means anything, nor how far loud and quiet lie apart in all bands alike.
    """

    array = SPECTRA
    dtype = np.float32
    in_decoder = True

    def __init__(self, section: AudioSection) -> None:
        self.rate, self.seconds, self.low, self.high = section.rate, section.seconds, section.low_hz, section.high_hz
        window, hop = (round(section.rate * ms / 1000) for ms in (section.window_ms, section.hop_ms))
        self.spectrogram = Spectrogram(section.rate, self.low, self.high, section.bands, window, hop)
        self.shape = (section.bands, self.spectrogram.frames(section.rate * section.seconds))
        self.key = f"audio1-{section.rate}-{section.seconds}-{self.low:g}-{self.high:g}-{section.bands}-{window}-{hop}"

    @property
    def step(self) -> float:
        """Seconds from one column to the next."""
        return self.spectrogram.hop / self.rate

    def start(self, record: Sound) -> float:
        """When what is read begins, in seconds of the sound."""
        return max(0.0, (record.seconds - self.seconds) / 2)

    def narrow(self, record: Sound) -> bool:
        """Whether `record` lacks frequencies that are read."""
        return _HIGHEST * record.rate < self.high

    def __call__(self, record: Sound, /) -> npt.NDArray[np.float32]:
        if self.key in record.converted:
            found: npt.NDArray[np.float32] = record.converted[self.key]
            return found
        first = round(self.start(record) * record.rate)
        margin = round(_MARGIN_SECONDS * record.rate)
        begin, end = max(0, first - margin), first + round(self.seconds * record.rate) + margin
        samples, ratio = resampled(record.samples[begin:end].astype(np.float64), record.rate, self.rate)
        samples = self._filtered(samples)[round((first - begin) * ratio) :]
        samples = samples[: min(round(record.seconds * self.rate), self.rate * self.seconds)]
        spectra = self.spectrogram(samples)
        out = np.full(self.shape, np.nan, np.float32)
        if spectra.size and spectra.std() > 0:
            out[:, : spectra.shape[1]] = (spectra - spectra.mean()) / spectra.std()
        return out

    def _filtered(self, samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        from scipy.signal import butter, sosfiltfilt

        sos = butter(_ORDER, (self.low, self.high), "bandpass", fs=self.rate, output="sos")
        found: npt.NDArray[np.float64] = sosfiltfilt(sos, samples)
        return found

    def facts(self, record: Sound) -> Mapping[str, Any]:
        return record.facts()

    def stand_in(self, digest: str, facts: Mapping[str, Any]) -> Sound:
        return Sound.of_facts(digest, facts)

    def fault(self, array: npt.NDArray[Any]) -> str:
        return "" if np.isfinite(array).any() else f"must have a sound between {self.low:g} and {self.high:g} Hz"
