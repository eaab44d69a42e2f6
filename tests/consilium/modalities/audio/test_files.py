"""Sounds are read right, or refused with field, value and rule."""

from __future__ import annotations

import builtins
import io
import struct
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import pytest
import scipy.io.wavfile

from consilium.domain.errors import InputError, TooLarge, UnsupportedMedia
from consilium.formats.limits import Limits
from consilium.modalities.audio.sound_record import Fault, Sound, sound_warnings
from consilium.modalities.registry import default_limits
from tests.conftest import ROOT
from tests.consilium.modalities.audio.made import (
    RATE,
    beats,
    chunk,
    dicom,
    extensible,
    flac,
    floats,
    form,
    read,
    riff,
    stdlib_wav,
    wav,
)

WORDS = beats()
VALUES = WORDS / 32768
PCG = ROOT.parent / "shared" / "data" / "pcg-physionet2016"
WIDE = np.rint(VALUES * 2**31).astype(np.int64) + np.random.default_rng(0).integers(0, 256, len(WORDS))


def _levelled(values: np.ndarray) -> np.ndarray:
    return values - values.mean()


# --- what is right ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "step"),
    [
        pytest.param(stdlib_wav(WORDS >> 8, 1), 2**-7, id="wav, 8 bits"),
        pytest.param(stdlib_wav(WORDS, 2), 2**-15, id="wav, 16 bits"),
        pytest.param(stdlib_wav(WIDE >> 8, 3), 2**-23, id="wav, 24 bits"),
        pytest.param(stdlib_wav(WIDE, 4), 2**-23, id="wav, 32 bits"),
        pytest.param(floats(VALUES), 2**-23, id="wav, floats"),
        pytest.param(floats(VALUES, "<f8"), 2**-23, id="wav, doubles"),
        pytest.param(riff(chunk(b"fmt ", extensible(1, 16)), chunk(b"data", WORDS.tobytes())), 2**-15, id="extensible"),
        pytest.param(
            riff(chunk(b"fmt ", extensible(3, 32)), chunk(b"data", VALUES.astype("<f4").tobytes())),
            2**-23,
            id="extensible, floats",
        ),
        pytest.param(flac(VALUES), 2**-15, id="flac, 16 bits"),
        pytest.param(flac(VALUES, subtype="PCM_24"), 2**-23, id="flac, 24 bits"),
        pytest.param(dicom(WORDS), 2**-15, id="dicom"),
        pytest.param(dicom(WORDS, big=True), 2**-15, id="dicom, big endian"),
        pytest.param(dicom(WORDS.astype(int) + 32768, kind="US"), 2**-15, id="dicom, unsigned"),
    ],
)
def test_every_kind_of_file_gives_its_samples(data: bytes, step: float) -> None:
    sound = read(data)
    assert sound.samples.dtype == np.float32
    np.testing.assert_allclose(sound.samples, _levelled(VALUES), atol=1.01 * step)
    assert (sound.rate, sound.seconds, sound.faults, sound.warnings) == (RATE, 8, (), ())


@pytest.mark.parametrize("width", [1, 2, 4])
def test_wav_is_read_as_scipy_reads_it(width: int) -> None:
    data = stdlib_wav({1: WORDS >> 8, 2: WORDS, 4: WIDE}[width], width)
    rate, found = scipy.io.wavfile.read(io.BytesIO(data))
    scaled = (found.astype(float) - (128 if width == 1 else 0)) / 2.0 ** (8 * width - 1)
    np.testing.assert_allclose(read(data).samples, _levelled(scaled), atol=1e-6)
    assert rate == read(data).rate


def test_other_chunks_are_passed_over() -> None:
    data = riff(
        chunk(b"LIST", b"odd"), chunk(b"fmt ", form()), chunk(b"fact", b"1234"), chunk(b"data", WORDS.tobytes())
    )
    np.testing.assert_array_equal(read(data).samples, read(wav()).samples)


def test_a_length_that_was_not_known_is_that_of_the_file() -> None:
    sound = read(riff(chunk(b"fmt ", form()), chunk(b"data", WORDS.tobytes(), 0xFFFFFFFF)))
    np.testing.assert_array_equal(sound.samples, read(wav()).samples)
    assert sound.warnings == ("the file does not state its length; it is read to its end",)


def test_what_a_dicom_header_says_is_kept() -> None:
    sound = read(dicom(WORDS))
    assert sound.time == datetime(2024, 3, 5, 10, 20, 30)
    assert sound.patient_digest is not None
    assert "Doe" in " ".join(sound.names)


def _stereo(one: np.ndarray, other: np.ndarray) -> bytes:
    return stdlib_wav(np.stack([one, other], axis=1), 2)


def test_of_two_channels_the_one_that_sounds_or_their_mean_is_read() -> None:
    own, silent, other = read(wav()).samples, np.zeros_like(WORDS), beats(1)
    same = read(_stereo(WORDS, WORDS))
    np.testing.assert_array_equal(same.samples, own)
    assert same.warnings == ()
    for pair in ((WORDS, silent), (silent, WORDS)):
        one = read(_stereo(*pair))
        np.testing.assert_array_equal(one.samples, own)
        assert one.warnings == ("one of two channels is silent; the other is read",)
    mean = read(_stereo(WORDS, other))
    np.testing.assert_allclose(mean.samples, _levelled((WORDS / 2 + other / 2) / 32768), atol=1e-6)
    assert mean.warnings == ("the mean of two channels that differ is read",)


def test_an_offset_is_taken_out_and_named() -> None:
    sound = read(floats(VALUES / 2 + 0.4))
    np.testing.assert_allclose(sound.samples, _levelled(VALUES / 2), atol=1e-6)
    assert sound.warnings == ("the samples lie around another value than zero; that is taken out",)


def _dropped() -> np.ndarray:
    found = VALUES.copy()
    found[4000:7000] = 0
    return found


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        (np.clip(VALUES * 6, -1, 1), Fault.CLIPPED),
        (np.clip(VALUES, -0.5 * VALUES.max(), 0.5 * VALUES.max()), Fault.CLIPPED),
        (np.rint(VALUES / VALUES.max() * 8) / 32768, Fault.COARSE),
        (_dropped(), Fault.DROPOUTS),
    ],
)
def test_faults_of_the_recording_are_named(values: np.ndarray, fault: Fault) -> None:
    sound = read(floats(values))
    assert sound.faults == (fault,)
    assert len(sound_warnings([sound])) == 1
    assert sound_warnings([sound])[0].startswith("sounds[0]: ")


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("values", "fault"),
    [
        (np.clip(VALUES * 6, -1, 1), Fault.CLIPPED),
        (np.rint(VALUES / VALUES.max() * 8) / 32768, Fault.COARSE),
        (_dropped(), Fault.DROPOUTS),
    ],
)
def test_a_fault_of_one_of_two_channels_is_not_averaged_away(values: np.ndarray, fault: Fault, first: bool) -> None:
    words, other = np.rint(values * 32767).astype(int), beats(1)
    sound = read(_stereo(*((words, other) if first else (other, words))))
    assert sound.faults == (fault,)
    assert sound.warnings == ("the mean of two channels that differ is read",)
    assert read(_stereo(WORDS, other)).faults == ()


def test_the_same_file_twice_is_warned_of() -> None:
    assert sound_warnings([read(wav()), read(wav())]) == ["sounds[1]: the same file as another"]


def test_facts_bring_back_everything_but_the_samples() -> None:
    sound = read(dicom(WORDS))
    again = Sound.of_facts(sound.digest, sound.facts())
    for name in ("rate", "digest", "source", "faults", "time", "warnings", "patient", "patient_digest", "seconds"):
        assert getattr(again, name) == getattr(sound, name), name


@pytest.mark.skipif(not PCG.is_dir(), reason="the public recordings are not here")
def test_public_recordings_are_read_as_libsndfile_reads_them() -> None:
    import soundfile

    for name in ("a0001", "c0001", "f0001"):
        path = PCG / "audio" / f"{name}.flac"
        words, rate = soundfile.read(path, dtype="int16")
        sound = read(path.read_bytes())
        assert (sound.rate, len(sound.samples)) == (rate, len(words))
        np.testing.assert_allclose(sound.samples, _levelled(words / 32768), atol=1e-6)


# --- what is refused -------------------------------------------------------------------------------------------------

NAN = VALUES.copy()
NAN[77] = np.nan
INFINITE = VALUES.copy()
INFINITE[77] = np.inf


@pytest.mark.parametrize(
    ("data", "field", "value"),
    [
        pytest.param(b"", "file", "empty file", id="empty"),
        pytest.param(b"hello", "file", "unknown", id="text"),
        pytest.param(b"ID3\4" + bytes(99), "file", "MP3", id="mp3"),
        pytest.param(b"OggS" + bytes(99), "file", "Ogg", id="ogg"),
        pytest.param(b"RIFX" + wav()[4:], "file", "WAV of big endian", id="rifx"),
        pytest.param(b"RF64" + wav()[4:], "file", "RF64", id="rf64"),
        pytest.param(riff(chunk(b"data", WORDS.tobytes())), "data", "before the format", id="no format"),
        pytest.param(riff(chunk(b"fmt ", form())), "file", "no chunk 'data'", id="no data"),
        pytest.param(riff(chunk(b"fmt ", form()[:12])), "fmt", "12 bytes", id="short format"),
        pytest.param(wav() + chunk(b"data", WORDS.tobytes()), "file", "two chunks 'data'", id="two sounds"),
        pytest.param(
            wav() + b"data\xff\xff\xff\x7f", "file", "two chunks 'data'", id="two sounds, one of them cut off"
        ),
        pytest.param(
            riff(chunk(b"fmt ", form(rate=8000)), chunk(b"fmt ", form()), chunk(b"data", WORDS.tobytes())),
            "file",
            "two chunks 'fmt '",
            id="two formats",
        ),
        pytest.param(wav(WORDS[: RATE - 1]), "samples", "1999 samples, 0.9995 s", id="a sample too short"),
        pytest.param(riff(*[chunk(b"LIST", b"")] * 2000), "file", "more than 1000 chunks", id="no end of chunks"),
        pytest.param(wav(tag=6), "fmt.format", "A-law", id="a-law"),
        pytest.param(wav(tag=999), "fmt.format", "number 999", id="unknown format"),
        pytest.param(wav(bits=12), "fmt.bits", "12", id="12 bits"),
        pytest.param(wav(tag=3), "fmt.bits", "16", id="floats of 16 bits"),
        pytest.param(wav(block=3), "fmt.block_align", "3", id="block"),
        pytest.param(
            riff(chunk(b"fmt ", extensible(1, 16, subformat=bytes(14))), chunk(b"data", WORDS.tobytes())),
            "fmt.subformat",
            "unknown",
            id="other subformat",
        ),
        pytest.param(wav(channels=0), "channels", "0", id="no channel"),
        pytest.param(wav(np.repeat(WORDS, 3), channels=3), "channels", "3", id="three channels"),
        pytest.param(wav(rate=0), "rate", "0", id="no rate"),
        pytest.param(wav(rate=8), "rate", "8", id="low rate"),
        pytest.param(wav(rate=4_000_000), "rate", "4000000", id="high rate"),
        pytest.param(wav(WORDS[:0]), "samples", "0", id="no sample"),
        pytest.param(wav(WORDS[:1000]), "samples", "0.5 s", id="too short"),
        pytest.param(wav(WORDS * 0), "samples", "silence", id="silence"),
        pytest.param(wav(WORDS * 0 + 900), "samples", "silence", id="constant"),
        pytest.param(_stereo(WORDS * 0, WORDS * 0), "samples", "silence", id="two silent channels"),
        pytest.param(_stereo(WORDS, -WORDS), "channels", "two that cancel each other", id="cancelled"),
        pytest.param(floats(NAN), "samples", "NaN or infinity", id="nan"),
        pytest.param(floats(INFINITE), "samples", "NaN or infinity", id="infinity"),
        pytest.param(floats(VALUES * 1e300, "<f8"), "samples", "NaN or infinity", id="doubles beyond floats"),
        pytest.param(floats(VALUES * 1e9), "samples", "floats far beyond full scale", id="huge"),
        pytest.param(b"fLaC" + bytes(200), "file", "damaged", id="no flac"),
        pytest.param(flac(VALUES[:, None].repeat(3, axis=1)), "channels", "3", id="flac, three channels"),
        pytest.param(flac(VALUES[:1000]), "samples", "0.5 s", id="flac, too short"),
        pytest.param(dicom(WORDS, sop="1.2.840.10008.5.1.4.1.1.2"), "SOPClassUID", "CT Image Storage", id="ct"),
        pytest.param(dicom(WORDS, kind="MB"), "WaveformSampleInterpretation", "MB", id="dicom, mu-law"),
        pytest.param(dicom(WORDS, WaveformBitsAllocated=8), "WaveformBitsAllocated", "8", id="dicom, bits"),
        pytest.param(dicom(WORDS, WaveformData=b"1234"), "WaveformData", "4 bytes", id="dicom, cut off"),
        pytest.param(dicom(WORDS, SamplingFrequency="1"), "SamplingFrequency", "1", id="dicom, rate"),
        pytest.param(
            dicom(WORDS, ChannelDefinitionSequence=[]), "NumberOfWaveformChannels", "1 channels", id="dicom, channels"
        ),
    ],
)
def test_what_is_no_sound_is_refused_by_field_and_value(data: bytes, field: str, value: str) -> None:
    with pytest.raises(InputError) as caught:
        read(data)
    assert caught.value.field == f"sounds[0].{field}"
    assert value in str(caught.value)
    assert caught.value.rule.startswith(("must", "needs"))


@pytest.mark.parametrize("make", [wav, lambda: flac(VALUES), lambda: dicom(WORDS)], ids=["wav", "flac", "dicom"])
def test_a_file_that_is_cut_off_anywhere_is_refused(make: Callable[[], bytes]) -> None:
    data = make()
    for tenth in range(1, 10):
        with pytest.raises(InputError):
            read(data[: len(data) * tenth // 10])


@pytest.mark.parametrize("seed", range(3))
def test_bytes_turned_over_are_read_or_refused_with_our_own_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for data in (wav(), flac(VALUES), dicom(WORDS)):
        for _ in range(20):
            damaged = bytearray(data)
            for place in rng.integers(4, 200, size=3):
                damaged[place] = rng.integers(256)
            try:
                read(bytes(damaged))
            except InputError:
                continue


def _limits(**most: int) -> Limits:
    return Limits({**default_limits(), **most})


@pytest.mark.parametrize("data", [wav(), flac(VALUES), dicom(WORDS)], ids=["wav", "flac", "dicom"])
def test_too_much_is_refused_before_it_is_read(data: bytes) -> None:
    with pytest.raises(TooLarge, match=r"sounds\[0\].samples"):
        read(data, _limits(sound_samples=len(WORDS) - 1))
    with pytest.raises(TooLarge, match=r"sounds\[0\].size"):
        read(data, _limits(sound_bytes=len(data) - 1))


def test_a_flac_header_that_promises_too_much_is_refused_without_its_memory() -> None:
    data = bytearray(flac(VALUES))
    data[21:26] = bytes([data[21] | 0x0F, *b"\xff\xff\xff\xff"])  # 36 bits: the number of samples
    with pytest.raises(TooLarge):
        read(bytes(data))


def test_a_flac_header_that_promises_more_than_there_is_is_refused() -> None:
    data = bytearray(flac(VALUES))
    data[22:26] = struct.pack(">I", 2 * len(WORDS))
    with pytest.raises(InputError, match="whole"):
        read(bytes(data))


def test_flac_is_refused_by_name_where_its_decoder_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *given: Any, **more: Any) -> Any:
        if name == "soundfile":
            raise ImportError(name)
        return real(name, *given, **more)

    data = flac(VALUES)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UnsupportedMedia, match=r"consilium\[flac\]"):
        read(data)
