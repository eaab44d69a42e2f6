"""DICOM audio: basic voice audio and general audio waveforms. Source: PS3.3 A.34.2 and A.34.10."""

from __future__ import annotations

import numpy as np
from pydicom import uid

from consilium.formats.dicom.waveforms import WaveformGroup, read_waveform_group, sample_range, stored_samples
from consilium.formats.limits import Limits
from consilium.modalities.audio.files.channels import Channels, check_shape

_CLASSES = (uid.BasicVoiceAudioWaveformStorage, uid.GeneralAudioWaveformStorage)


def read_dicom_audio(data: bytes, limits: Limits) -> Channels:
    """Read the first original multiplex group.

    Raises
    ------
    InputError
        Another object, or one that contradicts itself.
    """

    def read(found: WaveformGroup) -> Channels:
        return _channels(found, limits)

    rule = "must be a basic voice audio or general audio waveform"
    return read_waveform_group(data, _CLASSES, rule, limits["sound_bytes"], read)


def _channels(found: WaveformGroup, limits: Limits) -> Channels:
    check_shape(found.count, found.length, found.rate, limits["sound_samples"], "SamplingFrequency")
    low, high = sample_range(found)
    middle, scale = (low + high + 1) / 2, (high - low + 1) / 2
    samples = ((stored_samples(found) - middle) / scale).astype(np.float32)
    known, warnings = found.known()
    return Channels(samples, found.rate, "dicom", found.time, warnings, known)
