"""Pulse waves of the phantom: how high the wave is, says how much effort it takes to breathe."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from training.cohorts.phantom.phantom_modality import GaussianPhantom, Sent, Written
from training.cohorts.phantom.record import stream

_SAMPLES = 96


class PulsePhantom(GaussianPhantom):
    """One channel: the wave's height."""

    name = "pulse"
    folders = ("pulse",)
    shifts = MappingProxyType({"height": {"pneumothorax": 1.5, "heart_failure": -1.0}})

    def render(self, design, study):
        rng = stream(design, study.index, "pulse")
        (height,) = study.evidence.parts[self.name]
        phase = 2 * np.pi * np.arange(_SAMPLES) / 16 + rng.uniform(0, 2 * np.pi)
        return np.exp(0.4 * height) * np.sin(phase) + 0.1 * rng.normal(size=_SAMPLES)

    def write(self, target, rendered):
        name = f"pulse/{target.study.study_id}.txt"
        if rendered is not None:
            (target.root / name).write_text("\n".join(f"{sample:.4f}" for sample in rendered), encoding="ascii")
        return Written({"pulse_file": name if rendered is not None else ""})

    def request(self, asked):
        samples = [round(float(sample), 4) for sample in self.render(asked.design, asked.study)]
        return Sent({"pulses": [{"samples": samples}]})
