"""A recording as the array that models read: filtered, resampled, of one length. Without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.modalities.converter import Converter
from consilium.modalities.ecg.ecg_record import UNKNOWN_VOLTAGES, Ecg, Fault
from consilium.modalities.ecg.files.signals import LEADS
from consilium.modalities.ecg.section import EcgSection
from consilium.modalities.signals.resampling import resampled

SAMPLES = "samples"
_MARGIN_SECONDS = 2.0
"""Read on either side of what is kept, where filters swing in."""
_HIGH_PASS_HZ = 0.5
_MAINS_HZ, _NOTCH_QUALITY = (50.0, 60.0), 30.0
_COMMON_MILLIVOLTS, _COMMON_PERCENTILE = 1.0, 98.0
"""What this percentile of all absolute values is brought to where voltages are not known."""


class EcgConverter(Converter):
    """A recording as float32 [12, T] in millivolts at the recipe's rate; NaN where there is no lead or no time.

    Without drift below 0.5 Hz and without the mains, by filters that do not shift it in time.
    """

    array = SAMPLES
    dtype = np.float32
    in_decoder = True

    def __init__(self, section: EcgSection) -> None:
        self.rate, self.seconds, self.wrong_gains = section.rate, section.seconds, section.wrong_gains
        self.shape = (len(LEADS), section.rate * section.seconds)
        self.key = f"ecg2-{section.rate}-{section.seconds}-{section.wrong_gains}"

    def start(self, record: Ecg) -> float:
        """When what is read begins, in seconds of the recording."""
        return max(0.0, (record.seconds - self.seconds) / 2)

    def __call__(self, record: Ecg, /) -> npt.NDArray[np.float32]:
        if self.key in record.converted:
            found: npt.NDArray[np.float32] = record.converted[self.key]
            return found
        first = round(self.start(record) * record.rate)
        margin = round(_MARGIN_SECONDS * record.rate)
        begin, end = max(0, first - margin), first + round(self.seconds * record.rate) + margin
        leads = np.array(record.samples[:, begin:end], np.float64)
        there = np.isfinite(leads)
        leads, ratio = resampled(self._filtered(_level(leads), record.rate), record.rate, self.rate)
        known = there[:, np.minimum(np.arange(leads.shape[1]) / ratio, there.shape[1] - 1).astype(int)]
        leads = np.where(known, leads, np.nan)[:, round((first - begin) * ratio) :][:, : self.shape[1]]
        unknown = (Fault.NO_GAINS,) if self.wrong_gains == "microvolts" else UNKNOWN_VOLTAGES
        if any(fault in unknown for fault in record.faults):
            size = np.nanpercentile(np.abs(leads), _COMMON_PERCENTILE)
            leads = leads * (_COMMON_MILLIVOLTS / size if size > 0 else 1.0)
        out = np.full(self.shape, np.nan, np.float32)
        out[:, : leads.shape[1]] = leads
        return out

    def _filtered(self, leads: npt.NDArray[np.float64], rate: float) -> npt.NDArray[np.float64]:
        from scipy.signal import butter, filtfilt, iirnotch, sosfiltfilt

        leads = sosfiltfilt(butter(2, _HIGH_PASS_HZ, "highpass", fs=rate, output="sos"), leads, axis=1)
        for line in _MAINS_HZ:
            if line < 0.45 * rate:
                leads = filtfilt(*iirnotch(line, _NOTCH_QUALITY, rate), leads, axis=1)
        return leads

    def facts(self, record: Ecg) -> Mapping[str, Any]:
        return record.facts()

    def stand_in(self, digest: str, facts: Mapping[str, Any]) -> Ecg:
        return Ecg.of_facts(digest, facts)

    def fault(self, array: npt.NDArray[Any]) -> str:
        return "" if np.isfinite(array).any() else "must have a lead with a sample in its middle"


def _level(leads: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`leads` with the nearest sample where one is missing at an end, and 0 where there is no lead."""
    found = np.zeros_like(leads)
    places = np.arange(leads.shape[1])
    for position, lead in enumerate(leads):
        known = np.flatnonzero(np.isfinite(lead))
        if len(known):
            found[position] = np.interp(places, known, lead[known])
    return found
