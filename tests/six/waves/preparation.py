"""Waves → windows; each wave has as many as it is long, joined end to end."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np

import waves.records
from consilium.modalities.converter import Converter
from consilium.modalities.part import Part, Preparation
from waves import LETTERS

WINDOWS = "windows"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class WavePart(Part):
    """As well: how many windows each wave has."""

    lengths: tuple[int, ...]


class WaveConverter(Converter):
    """A wave as windows, float32 [n, window]."""

    array = WINDOWS
    dtype = np.float32
    end_to_end = True

    def __init__(self, letter: str, window: int) -> None:
        self.letter, self.shape, self.key = letter, (window,), f"windows1-{window}"

    def __call__(self, record):
        count = max(1, len(record.samples) // self.shape[0])
        return np.resize(record.samples, (count, *self.shape)).astype(np.float32)

    def facts(self, record):
        return {"samples": len(record.samples)}

    def stand_in(self, digest, facts):
        return getattr(waves.records, f"Wave_{self.letter}")(np.broadcast_to(np.float32(0), facts["samples"]), digest)

    def separated(self, part):
        return np.split(part.arrays[WINDOWS], np.cumsum(part.lengths)[:-1])


class WavePreparation(Preparation[WavePart]):
    """Fits nothing."""

    key = "wave1"
    letter: str

    def __init__(self, window: int) -> None:
        self.window = window

    @classmethod
    def converter(cls, section):
        return WaveConverter(cls.letter, section.window)

    @classmethod
    def fit(cls, section, studies, variables):
        return cls(section.window)

    def prepare(self, study, received, converted=None):
        convert = WaveConverter(self.letter, self.window)
        found = [convert(wave) for wave in study.parts[f"wave_{self.letter}"]] if converted is None else converted
        return WavePart(arrays={WINDOWS: convert.joined(list(found))}, lengths=tuple(map(len, found)))

    def save(self, folder):
        (folder / "wave.json").write_text(json.dumps(self.window), encoding="utf-8")

    @classmethod
    def load(cls, folder, section, variables):
        return cls(json.loads((folder / "wave.json").read_text(encoding="utf-8")))

    @property
    def digest(self):
        return hashlib.sha256(f"{self.letter} {self.window}".encode()).hexdigest()


for letter in LETTERS:
    globals()[f"Preparation_{letter}"] = type(f"Preparation_{letter}", (WavePreparation,), {"letter": letter})
