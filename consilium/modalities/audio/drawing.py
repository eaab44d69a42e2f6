"""A sound as its trace and its spectrogram, with evidence over it, and as what a browser plays."""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from consilium.modalities.audio.sound_record import Sound
from consilium.modalities.audio.spectrogram import Spectrogram

if TYPE_CHECKING:
    from consilium.modalities.audio.presentation import SoundEvidence

_SECOND, _LEFT, _BAND, _TRACE = 64.0, 60.0, 18.0, 56.0
_FAINT = 0.04
"""Share of the strongest cell below which a cell is not drawn."""
_BANDS, _WINDOW_SECONDS, _HOP_SECONDS = 64, 0.04, 0.01
"""Of the spectrogram that is drawn, whatever the model reads."""
_LEAST_RATE = 4000
"""Samples a second below which browsers may not play."""
_MOST_PLAYED_SECONDS = 30.0
_LOUDEST = 0.9
_DARKEST, _RANGE = 99.5, 10.0
"""Percentile of the spectrogram that is drawn black, and by how much less, as a logarithm, what is drawn white."""

Floats = npt.NDArray[np.float64]


def drawn(record: Sound, evidence: SoundEvidence, strongest: float) -> Mapping[str, Any]:
    """What the template draws of `record`.

    Parameters
    ----------
    strongest : float
        The largest weight of a cell of all findings: that of the darkest one.
    """
    windows = max((len(row) for row in evidence.bands), default=0)
    seconds = max(0.0, min(windows * evidence.step, record.seconds - evidence.start))
    rate, samples = played(record, evidence, seconds)
    low, high = evidence.hertz[0], evidence.hertz[-1]
    return {
        "number": evidence.sound + 1,
        "start": evidence.start,
        "seconds": seconds,
        "cycle": evidence.cycle,
        "left": _LEFT,
        "top": _TRACE,
        "width": round(_LEFT + _SECOND * seconds, 2),
        "height": _TRACE + _BAND * len(evidence.bands),
        "trace": _path(samples, seconds),
        "picture": _picture(Spectrogram(rate, low, high, _BANDS, *_frames(rate)), samples),
        "labels": [
            {"text": f"{hertz:.0f} Hz", "y": round(_y(number, evidence), 1)}
            for number, hertz in enumerate(evidence.hertz)
        ],
        "cells": list(_cells(evidence, seconds, strongest)),
        "audio": _wav(samples, rate) if seconds <= _MOST_PLAYED_SECONDS else "",
        "low": low,
        "high": high,
    }


def played(record: Sound, evidence: SoundEvidence, seconds: float) -> tuple[int, Floats]:
    """What the model read of `record`, at a rate that browsers play: its samples within the band, from -1 to 1."""
    first = round(evidence.start * record.rate)
    samples = record.samples[first : first + round(seconds * record.rate)].astype(np.float64)
    rate = max(_LEAST_RATE, 2 * int(np.ceil(evidence.hertz[-1] * 1.1)))
    spectrum = np.fft.rfft(samples)
    hertz = np.fft.rfftfreq(len(samples), 1 / record.rate)
    spectrum[(hertz < evidence.hertz[0]) | (hertz > evidence.hertz[-1])] = 0
    count = round(len(samples) * rate / record.rate)
    lines = np.zeros(count // 2 + 1, complex)
    lines[: min(len(lines), len(spectrum))] = spectrum[: len(lines)]
    found = np.fft.irfft(lines, count)
    largest = float(np.abs(found).max(initial=0))
    return rate, found * (_LOUDEST / largest if largest > 0 else 0.0)


def _frames(rate: int) -> tuple[int, int]:
    return round(_WINDOW_SECONDS * rate), round(_HOP_SECONDS * rate)


def _y(edge: int, evidence: SoundEvidence) -> float:
    """Where an edge between bands lies: high frequencies above."""
    return _TRACE + _BAND * (len(evidence.bands) - edge)


def _cells(evidence: SoundEvidence, seconds: float, strongest: float) -> Iterator[Mapping[str, Any]]:
    for band, row in enumerate(evidence.bands):
        for number, weight in enumerate(row):
            share = abs(weight) / strongest if strongest > 0 else 0.0
            begin, end = number * evidence.step, min((number + 1) * evidence.step, seconds)
            if share >= _FAINT and begin < end:
                yield {
                    "x": round(_LEFT + _SECOND * begin, 2),
                    "y": round(_y(band + 1, evidence), 1),
                    "width": round(_SECOND * (end - begin), 2),
                    "height": _BAND,
                    "for": weight > 0,
                    "opacity": round(0.75 * share, 2),
                }


def _path(samples: Floats, seconds: float) -> str:
    """From the lowest to the highest sample of each half point of the page, as an SVG path."""
    middle, columns = _TRACE / 2, max(1, round(2 * _SECOND * seconds))
    parts = enumerate(np.array_split(samples, columns))
    return "".join(
        f"M{_LEFT + number / 2:g} {middle * (1 - part.max()):.1f}V{middle * (1 - part.min()):.1f}"
        for number, part in parts
        if len(part)
    )


def _picture(spectrogram: Spectrogram, samples: Floats) -> str:
    """A PNG of the loudness, dark where it is loud."""
    from PIL import Image as Picture

    spectra = spectrogram(samples)[::-1]
    if not spectra.size:
        return ""
    darkest = float(np.percentile(spectra, _DARKEST))
    grey = 255 * np.clip((darkest - spectra) / _RANGE, 0, 1)
    out = io.BytesIO()
    Picture.fromarray(np.rint(grey).astype(np.uint8)).save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _wav(samples: Floats, rate: int) -> str:
    """A WAV file of 16 bits."""
    words = np.rint(samples * 32767).astype("<i2").tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(words), b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2,
                       16, b"data", len(words))  # fmt: skip
    return "data:audio/wav;base64," + base64.b64encode(head + words).decode()
