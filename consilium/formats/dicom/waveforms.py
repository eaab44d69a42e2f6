"""DICOM waveforms of any kind: the first original multiplex group of a file. Source: PS3.3 C.10.9."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
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
from consilium.formats.times import dicom_date_time, dicom_datetime, dicom_offset

Read = TypeVar("Read")

_KEYWORDS = (
    *("SOPClassUID", "WaveformSequence", "AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime"),
    *("ContentDate", "ContentTime", "StudyDate", "StudyTime", "TimezoneOffsetFromUTC"),
    *("PatientID", "StudyInstanceUID", *HEADER_KEYWORDS, *IDENTITY_KEYWORDS, *ORIGIN_KEYWORDS),
)
_TYPES = {"SB": "i1", "UB": "u1", "SS": "i2", "US": "u2", "SL": "i4", "UL": "u4"}


@dataclass(frozen=True, slots=True, eq=False)
class WaveformGroup:
    """One multiplex group.

    Attributes
    ----------
    dataset, group : Dataset
        The file's, and the group's own.
    groups : int
        How many the file has.
    rate : float
        Samples a second, as it is stated.
    channels : sequence of Dataset
        Their definitions.
    count, length : int
        Of channels, and of the samples of each.
    little : bool
        Whether its numbers are little endian.
    """

    dataset: Dataset
    group: Dataset
    groups: int
    rate: float
    channels: Sequence[Dataset]
    count: int
    length: int
    little: bool

    @property
    def time(self) -> datetime | None:
        """When it begins."""
        offset = dicom_offset(optional_text(self.dataset, "TimezoneOffsetFromUTC"))
        found = dicom_datetime(optional_text(self.dataset, "AcquisitionDateTime"), offset)
        for event in ("Acquisition", "Content", "Study"):
            day, clock = optional_text(self.dataset, f"{event}Date"), optional_text(self.dataset, f"{event}Time")
            found = found or dicom_date_time(day, clock, offset)
        return found

    def known(self) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """What else the header says, by attribute of the records of a study; and warnings."""
        time = self.time
        patient, warnings = read_header_patient(self.dataset, time and time.date())
        others = (f"{self.groups - 1} more multiplex groups are not read",) if self.groups > 1 else ()
        found = {
            "patient": patient,
            "patient_digest": identifier_digest(optional_text(self.dataset, "PatientID")),
            "study_digest": identifier_digest(optional_text(self.dataset, "StudyInstanceUID")),
            "accession_digest": order_digest(self.dataset),
            "device_digest": device_digest(self.dataset),
            "site_digest": site_digest(self.dataset),
            "names": names_of(self.dataset),
        }
        return found, (*warnings, *others)


def read_waveform_group(
    data: bytes, classes: Sequence[str], rule: str, most_bytes: int, read: Callable[[WaveformGroup], Read]
) -> Read:
    """What `read` makes of the first original multiplex group of a file.

    Parameters
    ----------
    classes : sequence of str
        SOP classes that it may be of.
    rule : str
        What they are, for whoever sends another: ``must be a 12-lead ECG waveform``.

    Raises
    ------
    InputError
        Another object, or one that contradicts itself.
    """
    with quiet():
        try:
            file = read_elements(data, _KEYWORDS, most_bytes)
            return read(_group(file.dataset, file.transfer_syntax != uid.ExplicitVRBigEndian, classes, rule))
        except InputError:
            raise
        except Exception as error:  # whatever pydicom raises on a broken file
            raise InputError("file", type(error).__name__, "must be a DICOM waveform that is whole") from None


def _group(dataset: Dataset, little: bool, classes: Sequence[str], rule: str) -> WaveformGroup:
    kind = uid.UID(optional_text(dataset, "SOPClassUID"))
    if kind not in classes:
        raise UnsupportedMedia("SOPClassUID", kind.name[:64], rule)
    groups = list(dataset.get("WaveformSequence") or ())
    if not groups:
        raise InputError("WaveformSequence", None, "must be present and not empty")
    original = [one for one in groups if optional_text(one, "WaveformOriginality").upper() != "DERIVED"]
    group = (original or groups)[0]
    channels = list(group.get("ChannelDefinitionSequence") or ())
    count, length = int(group.get("NumberOfWaveformChannels") or 0), int(group.get("NumberOfWaveformSamples") or 0)
    if not count or count != len(channels) or length < 1:
        given = f"{count} channels, {len(channels)} definitions, {length} samples"
        raise InputError("NumberOfWaveformChannels", given, "must be at least one, each with its definition")
    rate = float(group.get("SamplingFrequency") or 0)
    return WaveformGroup(dataset, group, len(groups), rate, channels, count, length, little)


def stored_samples(found: WaveformGroup) -> npt.NDArray[np.float64]:
    """The stored numbers, float64 [channels, samples], NaN where the file pads."""
    group, dtype = found.group, _sample_type(found)
    words, need = group.get("WaveformData") or b"", found.count * found.length * dtype.itemsize
    if len(words) < need:
        raise InputError("WaveformData", f"{len(words)} bytes", f"must be {need} bytes, as the group declares")
    numbers = np.frombuffer(words, dtype, found.count * found.length)
    samples = numbers.reshape(found.length, found.count).T.astype(np.float64)
    padding = group.get("WaveformPaddingValue")
    if isinstance(padding, bytes) and len(padding) >= dtype.itemsize:
        samples[samples == float(np.frombuffer(padding, dtype, 1)[0])] = np.nan
    return samples


def sample_range(found: WaveformGroup) -> tuple[int, int]:
    """The least and the largest number that its samples can be."""
    limits = np.iinfo(_sample_type(found))
    return int(limits.min), int(limits.max)


def _sample_type(found: WaveformGroup) -> np.dtype[Any]:
    interpretation = optional_text(found.group, "WaveformSampleInterpretation")
    kind = _TYPES.get(interpretation)
    if kind is None:
        rule = f"must be one of {', '.join(_TYPES)}"
        raise UnsupportedMedia("WaveformSampleInterpretation", interpretation[:8], rule)
    dtype = np.dtype(kind).newbyteorder("<" if found.little else ">")
    allocated = int(found.group.get("WaveformBitsAllocated") or 0)
    if allocated != 8 * dtype.itemsize:
        raise InputError("WaveformBitsAllocated", allocated, f"must be {8 * dtype.itemsize} for these samples")
    return dtype
