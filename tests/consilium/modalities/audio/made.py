"""Sounds and their files as other software writes them, for the tests."""

from __future__ import annotations

import io
import struct
import wave
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, GeneralAudioWaveformStorage

from consilium.formats.limits import Limits
from consilium.modalities.audio.records import read_sound
from consilium.modalities.audio.sound_record import Sound
from consilium.modalities.registry import default_limits
from training.cohorts.phantom.audio.heart_sounds import draw_heart_sound

RATE = 2000
SUBFORMAT = bytes.fromhex("000000001000800000aa00389b71")

Words = npt.NDArray[np.int16]


def beats(seed: int = 0, *, evidence: Sequence[float] = (0, 0, 0, 0)) -> Words:
    """A heart sound of 8 s."""
    return draw_heart_sound(np.array(evidence, float), np.random.default_rng(seed))


def read(data: bytes, limits: Limits | None = None) -> Sound:
    return read_sound(data, field="sounds[0]", limits=limits or default_limits())


def stdlib_wav(samples: npt.NDArray, width: int, *, rate: int = RATE) -> bytes:
    """Integers [T] or [T, C] of `width` bytes, written by the standard library."""
    frames = samples.reshape(len(samples), -1)
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((frames.shape[1], width, rate, 0, "NONE", ""))
        offset, dtype = (128, np.uint8) if width == 1 else (0, "<i4")
        words = (frames.astype(np.int64) + offset).astype(dtype)
        held = words.tobytes() if width in (1, 4) else words.view(np.uint8).reshape(-1, 4)[:, :width].tobytes()
        file.writeframes(held)
    return out.getvalue()


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def form(tag: int = 1, channels: int = 1, rate: int = RATE, bits: int = 16, block: int | None = None) -> bytes:
    frame = channels * bits // 8 if block is None else block
    return struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits)


def extensible(tag: int, bits: int, *, valid: int | None = None, subformat: bytes = SUBFORMAT) -> bytes:
    return form(0xFFFE, bits=bits) + struct.pack("<HHIH", 22, bits if valid is None else valid, 4, tag) + subformat


def riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def wav(samples: npt.NDArray = None, **given: int) -> bytes:  # type: ignore[assignment]
    """A plain file of 16 bits."""
    words = beats() if samples is None else samples
    return riff(chunk(b"fmt ", form(**given)), chunk(b"data", words.astype("<i2").tobytes()))


def floats(samples: npt.NDArray, kind: str = "<f4") -> bytes:
    words = samples.astype(kind)
    return riff(chunk(b"fmt ", form(3, bits=8 * words.itemsize)), chunk(b"data", words.tobytes()))


def flac(samples: npt.NDArray, *, subtype: str = "PCM_16", rate: int = RATE) -> bytes:
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="FLAC", subtype=subtype)
    return out.getvalue()


def dicom(samples: npt.NDArray, *, big: bool = False, sop: str = "", kind: str = "SS", **group: object) -> bytes:
    """A DICOM object of general audio, of samples [T] or [T, C]."""
    frames = samples.reshape(len(samples), -1)
    types = {"SS": "i2", "US": "u2", "SB": "i1", "UB": "u1", "SL": "i4"}
    one = Dataset()
    one.WaveformOriginality = "ORIGINAL"
    one.NumberOfWaveformSamples, one.NumberOfWaveformChannels = frames.shape
    one.SamplingFrequency = str(RATE)
    one.ChannelDefinitionSequence = [Dataset() for _ in range(frames.shape[1])]
    dtype = np.dtype(types.get(kind, "u1")).newbyteorder(">" if big else "<")
    one.WaveformBitsAllocated, one.WaveformSampleInterpretation = 8 * dtype.itemsize, kind
    one.WaveformData = frames.astype(dtype).tobytes()
    for keyword, value in group.items():
        setattr(one, keyword, value)
    file = Dataset()
    file.SOPClassUID = sop or GeneralAudioWaveformStorage
    file.SOPInstanceUID = "1.2.3"
    file.PatientID, file.PatientName = "4711", "Doe^Jane"
    file.AcquisitionDateTime = "20240305102030"
    file.WaveformSequence = [one]
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRBigEndian if big else ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID
    out = io.BytesIO()
    file.save_as(out, enforce_file_format=True)
    return out.getvalue()
