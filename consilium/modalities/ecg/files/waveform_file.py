"""DICOM waveforms: 12-lead, general and ambulatory ECG. Source: PS3.3 A.34.3 to A.34.5, C.10.9."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset

from consilium.domain.errors import InputError
from consilium.formats.dicom.header import optional_text
from consilium.formats.dicom.waveforms import WaveformGroup, read_waveform_group, stored_samples
from consilium.formats.limits import Limits
from consilium.modalities.ecg.files.bounds import check_rate, check_samples
from consilium.modalities.ecg.files.signals import LEADS, MILLIVOLTS, Signals, standard_lead

_CLASSES = (
    uid.TwelveLeadECGWaveformStorage,
    uid.GeneralECGWaveformStorage,
    uid.AmbulatoryECGWaveformStorage,
)
_NUMBERED = {1: "I", 2: "II", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF"} | {n + 2: f"V{n}" for n in range(1, 7)}
"""Leads by the last number of their codes in MDC (``2:61``) and SCP-ECG (``5.6.3-9-61``): PS3.16 context group 3001."""


def read_waveform(data: bytes, limits: Limits) -> Signals:
    """Read the first original multiplex group of a DICOM ECG.

    Raises
    ------
    InputError
        Another object, or one that contradicts itself.
    """

    def read(found: WaveformGroup) -> Signals:
        return _signals(found, limits)

    rule = "must be a 12-lead, general or ambulatory ECG waveform"
    return read_waveform_group(data, _CLASSES, rule, limits["ecg_bytes"], read)


def _signals(found: WaveformGroup, limits: Limits) -> Signals:
    check_rate(found.rate, "SamplingFrequency", found.rate)
    check_samples(found.count, found.length, limits["ecg_samples"])
    stored = stored_samples(found)
    steps = np.stack([_skewed(row, one, found.rate) for row, one in zip(stored, found.channels, strict=True)])
    known, warnings = found.known()
    return Signals(
        names=[_name(channel) for channel in found.channels],
        millivolts=np.stack(
            [_millivolts(row, one, i) for i, (row, one) in enumerate(zip(steps, found.channels, strict=True))]
        ),
        steps=steps,
        rate=found.rate,
        source="dicom",
        time=found.time,
        warnings=warnings,
        known=known,
    )


def _name(channel: Dataset) -> str:
    source = (channel.get("ChannelSourceSequence") or [Dataset()])[0]
    number = optional_text(source, "CodeValue").replace("-", ":").rsplit(":", 1)[-1]
    if optional_text(source, "CodingSchemeDesignator") in ("MDC", "SCPECG") and number.isdigit():
        return _NUMBERED.get(int(number), f"code {int(number)}")
    label = (optional_text(source, "CodeMeaning") or optional_text(channel, "ChannelLabel")).split("(")[0]
    lead = standard_lead(label)
    return label if lead is None or lead[0] not in LEADS else lead[0]


def _skewed(row: Any, channel: Dataset, rate: float) -> Any:
    """`row` moved to the time of the first channel, by whole samples."""
    by_time = float(channel.get("ChannelTimeSkew") or 0) * rate
    samples = round(float(channel.get("ChannelSampleSkew") or 0) + by_time)
    if not samples:
        return row
    moved = np.full_like(row, np.nan)
    if abs(samples) >= len(row):
        return moved
    if samples > 0:
        moved[samples:] = row[:-samples]
    else:
        moved[:samples] = row[-samples:]
    return moved


def _millivolts(row: Any, channel: Dataset, position: int) -> Any:
    field = f"WaveformSequence.ChannelDefinitionSequence[{position}]"
    if channel.get("ChannelSensitivity") is None:
        return row * np.nan
    units = (channel.get("ChannelSensitivityUnitsSequence") or [Dataset()])[0]
    unit = MILLIVOLTS.get(optional_text(units, "CodeValue").lower())
    if unit is None:
        return row * np.nan
    factor = channel.get("ChannelSensitivityCorrectionFactor")
    gain = float(channel.ChannelSensitivity) * (1.0 if factor is None else float(factor))
    if not np.isfinite(gain) or gain == 0:
        raise InputError(f"{field}.ChannelSensitivity", gain, "must be a number that is not 0")
    return (row * gain + float(channel.get("ChannelBaseline") or 0)) * unit
