"""A heart sound from evidence and nuisance: two tones a beat, a murmur between them, and noise."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

RATE, SECONDS = 2000, 8
CHANNELS = ("rate", "murmur", "split", "second")
_BEATS_MINUTE, _RATE_SPREAD = 72.0, 0.16
_FIRST_HZ, _SECOND_HZ, _DECAY_SECONDS = 55.0, 75.0, 0.022
_SYSTOLE_SECONDS = 0.30
_MURMUR, _MURMUR_SPREAD, _MURMUR_HZ = 0.05, 0.5, (120.0, 350.0)
_SPLIT_SECONDS, _SPLIT_SPREAD = 0.04, 0.5
_SECOND, _SECOND_SPREAD = 0.6, 0.3
_NOISE = 0.02
_SCALE = 9000

Floats = npt.NDArray[np.float64]


def draw_heart_sound(evidence: Floats, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """Samples [T] of one recording.

    Parameters
    ----------
    evidence : float64 [4]
        `CHANNELS`: how fast the heart beats, how loud the murmur of systole is, how far the second sound is split, how
        loud it is.
    rng : Generator
        Nuisance: where the first beat is, how the beats vary, the tones' pitches, the loudness, breath and noise.
    """
    fast, murmur, split, second = evidence
    interval = 60 / (_BEATS_MINUTE * np.exp(_RATE_SPREAD * fast))
    systole = _SYSTOLE_SECONDS * (interval / 0.8) ** 0.4
    count = int(np.ceil((SECONDS + 2) / interval)) + 2
    beats = np.cumsum(interval * (1 + 0.03 * rng.normal(size=count))) - rng.uniform(0, interval) - interval
    pitches = np.exp(0.06 * rng.normal(size=2)) * (_FIRST_HZ, _SECOND_HZ)
    since = np.arange(RATE * SECONDS) / RATE - beats[:, None]  # [beats, T]
    half = _SPLIT_SECONDS * np.exp(_SPLIT_SPREAD * split) / 2
    loud = _SECOND * np.exp(_SECOND_SPREAD * second)
    sound = _tones(since, pitches[0])
    sound += loud / 2 * (_tones(since - systole + half, pitches[1]) + _tones(since - systole - half, pitches[1]))
    during = (_rise(since - 0.06) * _rise(systole - 0.04 - since)).sum(axis=0)
    sound += _MURMUR * np.exp(_MURMUR_SPREAD * murmur) * during * _noise(rng, *_MURMUR_HZ)
    sound += 2 * _NOISE * _noise(rng, 20, 150) + _NOISE * _noise(rng, 20, 900)
    sound *= _SCALE * np.exp(0.3 * rng.normal())
    return np.clip(np.rint(sound), -32767, 32767).astype(np.int16)


def _tones(since: Floats, pitch: float) -> Floats:
    """A damped tone at each beat."""
    rising = _rise(since, 0.004)
    decay = np.exp(-np.clip(since, 0, None) / _DECAY_SECONDS)
    tones: Floats = (rising * decay * np.sin(2 * np.pi * pitch * since)).sum(axis=0)
    return tones


def _rise(since: Floats, width: float = 0.015) -> Floats:
    """From 0 to 1 around 0."""
    return 0.5 * (1 + np.tanh(since / (2 * width)))


def _noise(rng: np.random.Generator, low: float, high: float) -> Floats:
    """Gaussian noise between two frequencies, of spread 1."""
    spectrum = np.fft.rfft(rng.normal(size=RATE * SECONDS))
    hertz = np.fft.rfftfreq(RATE * SECONDS, 1 / RATE)
    spectrum[(hertz < low) | (hertz > high)] = 0
    noise = np.fft.irfft(spectrum)
    return np.asarray(noise / noise.std(), np.float64)


def as_wav(samples: npt.NDArray[np.int16]) -> bytes:
    """A WAV file; the same bytes for the same samples."""
    words = samples.astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(words)) + words
    return struct.pack("<4sI", b"RIFF", len(body)) + body
