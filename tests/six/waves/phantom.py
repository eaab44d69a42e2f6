"""Waves of the phantom: how high a wave is, says how likely two findings are; their lengths differ."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from training.cohorts.phantom.phantom_modality import GaussianPhantom, Sent, Written
from training.cohorts.phantom.record import stream
from waves import LETTERS

_FINDINGS = ("pneumonia", "pneumothorax", "heart_failure", "pleural_effusion")


class WavePhantom(GaussianPhantom):
    """One channel: the wave's height."""

    def render(self, design, study):
        rng = stream(design, study.index, self.name)
        (height,) = study.evidence.parts[self.name]
        phase = 2 * np.pi * np.arange(rng.integers(32, 96)) / 8 + rng.uniform(0, 2 * np.pi)
        return (np.exp(0.4 * height) * np.sin(phase) + 0.1 * rng.normal(size=len(phase))).astype("<f4")

    def write(self, target, rendered):
        name = f"{self.name}/{target.study.study_id}.f4"
        if rendered is not None:
            (target.root / name).write_bytes(rendered.tobytes())
        return Written({self.name: name if rendered is not None else ""})

    def request(self, asked):
        field = f"waves_{self.name[-1]}"
        samples = [round(float(sample), 4) for sample in self.render(asked.design, asked.study)]
        return Sent({field: [{"samples": samples}]})


for number, letter in enumerate(LETTERS):
    shift = {_FINDINGS[number % 4]: 1.5, _FINDINGS[(number + 1) % 4]: -1.0}
    globals()[f"Phantom_{letter}"] = type(
        f"Phantom_{letter}",
        (WavePhantom,),
        {"name": f"wave_{letter}", "folders": (f"wave_{letter}",), "shifts": MappingProxyType({"height": shift})},
    )
