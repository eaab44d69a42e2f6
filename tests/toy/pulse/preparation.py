"""Pulse waves → standardised windows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from consilium.domain.errors import InputError
from consilium.modalities.part import Part, Preparation

WINDOWS = "windows"


class PulsePreparation(Preparation[Part]):
    """Cuts waves into windows, and scales them by mean and spread of the training studies' samples."""

    key = "pulse1"

    def __init__(self, window: int, mean: float, sd: float) -> None:
        self.window, self.mean, self.sd = window, mean, sd

    @classmethod
    def fit(cls, section, studies, variables):
        samples = [sample for study in studies for pulse in study.parts["pulse"] for sample in pulse.samples]
        if not samples:
            raise InputError("recipe.modalities", "pulse", "needs pulse waves in the training studies")
        return cls(section.window, float(np.mean(samples)), float(np.std(samples)) or 1.0)

    def prepare(self, study, received, converted=None):
        windows = [self._windows(pulse.samples) for pulse in study.parts["pulse"]]
        empty = np.zeros((0, self.window), np.float32)
        return Part(arrays={WINDOWS: np.concatenate([empty, *windows])})

    def _windows(self, samples):
        whole = np.array(samples[: len(samples) // self.window * self.window] or samples, np.float32)
        scaled = (np.resize(whole, (max(1, len(whole) // self.window), self.window)) - self.mean) / self.sd
        return scaled.astype(np.float32)

    def save(self, folder: Path) -> None:
        (folder / "pulse.json").write_text(json.dumps([self.window, self.mean, self.sd]), encoding="utf-8")

    @classmethod
    def load(cls, folder, section, variables):
        return cls(*json.loads((folder / "pulse.json").read_text(encoding="utf-8")))

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps([self.window, self.mean, self.sd]).encode()).hexdigest()
