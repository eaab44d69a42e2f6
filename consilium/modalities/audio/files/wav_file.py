"""WAV: integers of 8 to 32 bits and floats. Source: Multimedia Programming Interface 1.0; Microsoft's mmreg.h."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from consilium.domain.errors import InputError, UnsupportedMedia
from consilium.formats.limits import Limits
from consilium.modalities.audio.files.channels import Channels, check_shape

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_OTHERS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 17: "ADPCM", 49: "GSM", 80: "MPEG", 85: "MP3"}
_SUBFORMAT = bytes.fromhex("000000001000800000aa00389b71")
"""How the GUID of a format ends that has a number (KSDATAFORMAT_SUBTYPE_WAVEFORMATEX)."""
_UNSTATED = 0xFFFFFFFF
"""Size of the data where who wrote it did not know it."""
_INTEGERS, _FLOATS = (8, 16, 24, 32), (32, 64)
_MOST_CHUNKS = 1000


@dataclass(frozen=True, slots=True)
class _Format:
    tag: int
    channels: int
    rate: int
    bits: int

    @property
    def frame(self) -> int:
        """Bytes of one sample of all channels."""
        return self.channels * self.bits // 8


def read_wav(data: bytes, limits: Limits) -> Channels:
    """Read the samples of a RIFF file.

    Raises
    ------
    InputError
        A file that is cut off or contradicts itself, or samples of another kind.
    """
    form, held, warnings = None, None, []
    for name, size, start in _chunks(data):
        if (name == b"fmt " and form is not None) or (name == b"data" and held is not None):
            raise InputError("file", f"two chunks '{name.decode()}'", "must be one sound, of one format")
        if name == b"fmt ":
            form = _format(data[start : start + min(size, 64)])
        elif name == b"data":
            if form is None:
                raise InputError("data", "before the format", "must follow the chunk 'fmt '")
            if size == _UNSTATED:
                size = len(data) - start  # noqa: PLW2901
                warnings.append("the file does not state its length; it is read to its end")
            held = start, size
    if form is None or held is None:
        missing = "fmt " if form is None else "data"
        raise InputError("file", f"no chunk '{missing}'", "must be a WAV file that is whole")
    start, size = held
    if start + size > len(data):
        raise InputError("data", f"{len(data) - start} bytes", f"must be {size} bytes, as its header states")
    count, rest = divmod(size, form.frame)
    if rest:
        warnings.append("the last sample is cut off, and left out")
    check_shape(form.channels, count, form.rate, limits["sound_samples"])
    samples = _samples(data, start, count * form.channels, form)
    return Channels(samples.reshape(count, form.channels).T, float(form.rate), "wav", warnings=tuple(warnings))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, size and beginning of each chunk."""
    place, count = 12, 0
    while place + 8 <= len(data):
        count += 1
        if count > _MOST_CHUNKS:
            raise InputError("file", f"more than {_MOST_CHUNKS} chunks", "must be a WAV file of a few chunks")
        name, size = struct.unpack_from("<4sI", data, place)
        yield name, size, place + 8
        place += 8 + size + size % 2


def _format(chunk: bytes) -> _Format:
    if len(chunk) < 16:
        raise InputError("fmt", f"{len(chunk)} bytes", "must be at least 16 bytes")
    tag, channels, rate, _, frame, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE:
        if len(chunk) < 40 or chunk[26:40] != _SUBFORMAT:
            raise UnsupportedMedia("fmt.subformat", "unknown", "must be integers or floats")
        (tag,) = struct.unpack_from("<H", chunk, 24)
    allowed = {_PCM: _INTEGERS, _FLOAT: _FLOATS}.get(tag)
    if allowed is None:
        raise UnsupportedMedia("fmt.format", _OTHERS.get(tag, f"number {tag}"), "must be integers (1) or floats (3)")
    if bits not in allowed:
        raise UnsupportedMedia("fmt.bits", str(bits), f"must be one of {', '.join(map(str, allowed))}")
    found = _Format(tag, channels, rate, bits)
    if not channels:
        raise InputError("channels", channels, "must be one or two")
    if frame != found.frame:
        raise InputError("fmt.block_align", frame, f"must be {found.frame}, for {channels} channels of {bits} bits")
    return found


def _samples(data: bytes, start: int, count: int, form: _Format) -> npt.NDArray[np.float32]:
    if form.tag == _FLOAT:
        with np.errstate(over="ignore"):
            return np.frombuffer(data, f"<f{form.bits // 8}", count, start).astype(np.float32)
    if form.bits == 8:
        return (np.frombuffer(data, np.uint8, count, start).astype(np.float32) - np.float32(128)) / np.float32(128)
    if form.bits == 24:
        stored = np.frombuffer(data, np.uint8, 3 * count, start).reshape(count, 3)
        widened = np.zeros((count, 4), np.uint8)
        widened[:, 1:] = stored
        return widened.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
    dtype = np.dtype(f"<i{form.bits // 8}")
    return np.frombuffer(data, dtype, count, start).astype(np.float32) / np.float32(2 ** (form.bits - 1))
