"""Sounds from files of any kind, recognised by their first bytes."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import InputError, TooLarge, UnsupportedMedia
from consilium.formats.dicom.file_structure import is_dicom
from consilium.formats.limits import Limits
from consilium.modalities.audio.files.channels import Channels
from consilium.modalities.audio.files.dicom_audio import read_dicom_audio
from consilium.modalities.audio.files.flac_file import read_flac
from consilium.modalities.audio.files.wav_file import read_wav
from consilium.modalities.audio.sound_record import Fault, Sound
from consilium.modalities.registry import default_limits

LEAST_SECONDS = 1.0
_LARGEST = 1e6
"""Of floats, whose full scale should be 1: some software writes integers as floats."""
_FEW_VALUES = 64
_CLIPPED, _RUN = 1e-3, 3
"""Share of the samples that lie at an end of the range, in runs of so many or more."""
_SILENT, _SILENT_SECONDS = 0.1, 0.02
"""Share of the time that does not change at all for so long."""
_OFFSET = 0.1
"""Mean of the samples, as a share of their largest, from which on it is warned of."""
_ALIKE = 0.999

Samples = npt.NDArray[np.float32]

_OTHERS = {
    b"RIFX": "WAV of big endian",
    b"RF64": "RF64",
    b"OggS": "Ogg",
    b"FORM": "AIFF",
    b"ID3": "MP3",
    b"\xff\xfb": "MP3",
    b"\xff\xf3": "MP3",
    b".snd": "AU",
    b"caff": "CAF",
    b"PK\x03\x04": "zip archive",
}
_RULE = "must be WAV, FLAC or DICOM audio"


def read_sound(data: bytes, *, field: str = "sound", limits: Limits | None = None) -> Sound:
    """Read a WAV, FLAC or DICOM audio file.

    Raises
    ------
    InputError
        Names what is wrong with the file.
    """
    limits = limits or default_limits()
    try:
        if len(data) > limits["sound_bytes"]:
            raise TooLarge("size", len(data), f"must be at most {limits['sound_bytes']} bytes")
        return _sound(_channels(data, limits), hashlib.sha256(data).hexdigest())
    except InputError as error:
        raise error.at(field) from None


def _channels(data: bytes, limits: Limits) -> Channels:
    if data.startswith(b"RIFF") and data[8:12] == b"WAVE":
        return read_wav(data, limits)
    if data.startswith(b"fLaC"):
        return read_flac(data, limits)
    if is_dicom(data):
        return read_dicom_audio(data, limits)
    kind = next((kind for start, kind in _OTHERS.items() if data.startswith(start)), "unknown")
    raise UnsupportedMedia("file", kind if data else "empty file", _RULE)


def _sound(found: Channels, digest: str) -> Sound:
    if not np.isfinite(found.samples).all():
        raise InputError("samples", "NaN or infinity", "must be numbers")
    if np.abs(found.samples).max() > _LARGEST:
        raise InputError("samples", "floats far beyond full scale", f"must lie within {_LARGEST:g}; full scale is 1")
    samples, read, warnings = _one_channel(found.samples)
    if len(samples) < LEAST_SECONDS * found.rate:
        shown = f"{len(samples)} samples, {len(samples) / found.rate:.4g} s"
        raise InputError("samples", shown, f"must be at least {LEAST_SECONDS:g} s at {found.rate:g} samples a second")
    if samples.min() == samples.max():
        raise InputError("samples", "silence", "must be a sound: all of its samples are equal")
    mean, largest = float(samples.mean(dtype=np.float64)), float(np.abs(samples).max())
    if abs(mean) > _OFFSET * largest:
        warnings.append("the samples lie around another value than zero; that is taken out")
    return Sound(
        samples=samples - np.float32(mean),
        rate=found.rate,
        digest=digest,
        source=found.source,
        # Of the channels that were read: no mean of two shows that one of them is clipped.
        faults=tuple(fault for fault in Fault if any(fault in _faults(one, found.rate) for one in read)),
        time=found.time,
        warnings=(*found.warnings, *warnings),
        **found.known,
    )


def _one_channel(channels: Samples) -> tuple[Samples, list[Samples], list[str]]:
    """One channel: the one that sounds, or the mean of two; and of which it was made."""
    if len(channels) == 1:
        return channels[0], [channels[0]], []
    sounds = [channel for channel in channels if channel.min() < channel.max()]
    if len(sounds) < 2:
        one = (sounds or list(channels))[0]
        return one, [one], ["one of two channels is silent; the other is read"]
    one, other = channels
    if np.array_equal(one, other):
        return one, [one], []
    mean = (one + other) / 2
    spreads = [float(np.std(x, dtype=np.float64)) for x in (mean, *channels)]
    if spreads[0] < (1 - _ALIKE) * max(spreads[1:]):
        raise InputError("channels", "two that cancel each other", "must be one sound, not it and its negative")
    return mean, sounds, ["the mean of two channels that differ is read"]


def _faults(samples: Samples, rate: float) -> tuple[Fault, ...]:
    coarse = len(np.unique(samples)) < _FEW_VALUES
    found = {
        Fault.COARSE: coarse,
        Fault.CLIPPED: not coarse and _clipped(samples),
        Fault.DROPOUTS: _silent_share(samples, rate) > _SILENT,
    }
    return tuple(fault for fault, there in found.items() if there)


def _clipped(samples: Samples) -> bool:
    """Whether many samples lie at an end of the range, several in a row."""
    at_end = (samples == samples.max()) | (samples == samples.min())
    lengths = _runs(at_end)
    return bool(lengths[lengths >= _RUN].sum() > _CLIPPED * len(samples))


def _silent_share(samples: Samples, rate: float) -> float:
    lengths = _runs(np.diff(samples) == 0)
    return float(lengths[lengths >= _SILENT_SECONDS * rate].sum() / len(samples))


def _runs(holds: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Lengths of the runs in which `holds` is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], holds, [False]]).astype(np.int8)))
    lengths: npt.NDArray[np.int64] = edges[1::2] - edges[::2]
    return lengths
