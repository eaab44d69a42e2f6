"""DICOM waveforms: 12-lead, general and ambulatory ECG. Source: PS3.3 A.34.3 to A.34.5, C.10.9."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset

from consilium.domain.errors import InputError, UnsupportedMedia
from consilium.domain.study import identifier_digest
from consilium.formats.dicom.file_structure import quiet, read_elements
from consilium.formats.dicom.header import HEADER_KEYWORDS, optional_text, read_header_patient
from consilium.formats.dicom.identity import (
    IDENTITY_KEYWORDS,
    ORIGIN_KEYWORDS,
    device_digest,
    names_of,
    order_digest,
    site_digest,
)
from consilium.formats.limits import Limits
from consilium.formats.times import dicom_date_time, dicom_datetime, dicom_offset
from consilium.modalities.ecg.files.bounds import check_rate, check_samples
from consilium.modalities.ecg.files.signals import LEADS, MILLIVOLTS, Signals, standard_lead

_CLASSES = (
    uid.TwelveLeadECGWaveformStorage,
    uid.GeneralECGWaveformStorage,
    uid.AmbulatoryECGWaveformStorage,
)
_KEYWORDS = (
    *("SOPClassUID", "WaveformSequence", "AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime"),
    *("ContentDate", "ContentTime", "StudyDate", "StudyTime", "TimezoneOffsetFromUTC"),
    *("PatientID", "StudyInstanceUID", *HEADER_KEYWORDS, *IDENTITY_KEYWORDS, *ORIGIN_KEYWORDS),
)
_TYPES = {"SB": "i1", "UB": "u1", "SS": "i2", "US": "u2", "SL": "i4", "UL": "u4"}
_NUMBERED = {1: "I", 2: "II", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF"} | {n + 2: f"V{n}" for n in range(1, 7)}
"""Leads by the last number of their codes in MDC (``2:61``) and SCP-ECG (``5.6.3-9-61``): PS3.16 context group 3001."""


def read_waveform(data: bytes, limits: Limits) -> Signals:
    """Read the first original multiplex group of a DICOM ECG.

    Raises
    ------
    InputError
        Another object, or one that contradicts itself.
    """
    with quiet():
        try:
            file = read_elements(data, _KEYWORDS, limits["ecg_bytes"])
            return _read(file.dataset, file.transfer_syntax != uid.ExplicitVRBigEndian, limits)
        except InputError:
            raise
        except Exception as error:  # whatever pydicom raises on a broken file
            raise InputError("file", type(error).__name__, "must be a DICOM waveform that is whole") from None


def _read(dataset: Dataset, little: bool, limits: Limits) -> Signals:
    kind = uid.UID(optional_text(dataset, "SOPClassUID"))
    if kind not in _CLASSES:
        raise UnsupportedMedia("SOPClassUID", kind.name[:64], "must be a 12-lead, general or ambulatory ECG waveform")
    groups = list(dataset.get("WaveformSequence") or ())
    if not groups:
        raise InputError("WaveformSequence", None, "must be present and not empty")
    original = [one for one in groups if optional_text(one, "WaveformOriginality").upper() != "DERIVED"]
    group = (original or groups)[0]
    rate = float(group.get("SamplingFrequency") or 0)
    check_rate(rate, "SamplingFrequency", rate)
    channels = list(group.get("ChannelDefinitionSequence") or ())
    count, length = int(group.get("NumberOfWaveformChannels") or 0), int(group.get("NumberOfWaveformSamples") or 0)
    if not count or count != len(channels) or length < 1:
        given = f"{count} channels, {len(channels)} definitions, {length} samples"
        raise InputError("NumberOfWaveformChannels", given, "must be at least one, each with its definition")
    check_samples(count, length, limits["ecg_samples"])
    stored = _stored(group, count, length, little)
    steps = np.stack([_skewed(row, channel, rate) for row, channel in zip(stored, channels, strict=True)])
    time = _time(dataset)
    patient, warnings = read_header_patient(dataset, time and time.date())
    others = (f"{len(groups) - 1} more multiplex groups are not read",) if len(groups) > 1 else ()
    return Signals(
        names=[_name(channel) for channel in channels],
        millivolts=np.stack(
            [_millivolts(row, one, i) for i, (row, one) in enumerate(zip(steps, channels, strict=True))]
        ),
        steps=steps,
        rate=rate,
        source="dicom",
        time=time,
        warnings=(*warnings, *others),
        known={
            "patient": patient,
            "patient_digest": identifier_digest(optional_text(dataset, "PatientID")),
            "study_digest": identifier_digest(optional_text(dataset, "StudyInstanceUID")),
            "accession_digest": order_digest(dataset),
            "device_digest": device_digest(dataset),
            "site_digest": site_digest(dataset),
            "names": names_of(dataset),
        },
    )


def _stored(group: Dataset, count: int, length: int, little: bool) -> Any:
    """The stored numbers, float64 [channels, samples], NaN where the file pads."""
    kind = _TYPES.get(optional_text(group, "WaveformSampleInterpretation"))
    if kind is None:
        interpretation = optional_text(group, "WaveformSampleInterpretation")[:8]
        raise UnsupportedMedia("WaveformSampleInterpretation", interpretation, f"must be one of {', '.join(_TYPES)}")
    dtype = np.dtype(kind).newbyteorder("<" if little else ">")
    if int(group.get("WaveformBitsAllocated") or 0) != 8 * dtype.itemsize:
        given = int(group.get("WaveformBitsAllocated") or 0)
        raise InputError("WaveformBitsAllocated", given, f"must be {8 * dtype.itemsize} for these samples")
    words, need = group.get("WaveformData") or b"", count * length * dtype.itemsize
    if len(words) < need:
        raise InputError("WaveformData", f"{len(words)} bytes", f"must be {need} bytes, as the group declares")
    found = np.frombuffer(words, dtype, count * length).reshape(length, count).T.astype(np.float64)
    padding = group.get("WaveformPaddingValue")
    if isinstance(padding, bytes) and len(padding) >= dtype.itemsize:
        found[found == float(np.frombuffer(padding, dtype, 1)[0])] = np.nan
    return found


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


def _time(dataset: Dataset) -> datetime | None:
    offset = dicom_offset(optional_text(dataset, "TimezoneOffsetFromUTC"))
    found = dicom_datetime(optional_text(dataset, "AcquisitionDateTime"), offset)
    for event in ("Acquisition", "Content", "Study"):
        day, clock = optional_text(dataset, f"{event}Date"), optional_text(dataset, f"{event}Time")
        found = found or dicom_date_time(day, clock, offset)
    return found
