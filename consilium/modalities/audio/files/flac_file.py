"""FLAC, by libsndfile, which the extra ``flac`` brings. Source: RFC 9639."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from consilium.domain.errors import InputError, UnsupportedMedia
from consilium.formats.limits import Limits
from consilium.modalities.audio.files.channels import Channels, check_shape

if TYPE_CHECKING:
    import numpy.typing as npt

_BLOCK = 1 << 16
_WHOLE = "must be a FLAC file that is whole"


def read_flac(data: bytes, limits: Limits) -> Channels:
    """Read the samples that the header announces.

    Raises
    ------
    InputError
        A file that is cut off or damaged.
    UnsupportedMedia
        Where its decoder is not installed.
    """
    try:
        import soundfile
    except ImportError:
        rule = "needs a decoder that is not installed: pip install 'consilium[flac]' (LGPL-2.1)"
        raise UnsupportedMedia("file", "FLAC", rule) from None
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.format != "FLAC":
                raise UnsupportedMedia("file", str(file.format)[:20], "must be a FLAC stream of its own")
            check_shape(file.channels, file.frames, float(file.samplerate), limits["sound_samples"])
            return Channels(_samples(file).T, float(file.samplerate), "flac")
    except soundfile.LibsndfileError:
        raise InputError("file", "damaged", _WHOLE) from None


def _samples(file: Any) -> npt.NDArray[np.float32]:
    """All frames, block by block: the header is no promise."""
    samples = np.empty((file.frames, file.channels), np.float32)
    done = 0
    while done < len(samples):
        block = file.read(min(_BLOCK, len(samples) - done), dtype="float32", always_2d=True)
        if not len(block):
            raise InputError("file", f"{done} samples", f"{_WHOLE}: its header announces {len(samples)}")
        samples[done : done + len(block)] = block
        done += len(block)
    return samples
