"""Sounds of the phantom: how a heart sounds says how likely the findings are."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from training.cohorts.phantom.audio.heart_sounds import as_wav, draw_heart_sound
from training.cohorts.phantom.phantom_modality import Asked, GaussianPhantom, Sent, Target, Written
from training.cohorts.phantom.record import Design, Drawn, stream

_FOLDER = "sounds"


class AudioPhantom(GaussianPhantom):
    """One channel a finding; the oracle reads the evidence as drawn."""

    name = "audio"
    folders = (_FOLDER,)
    shifts = MappingProxyType(
        {
            "rate": {"pneumonia": 1.4},
            "murmur": {"heart_failure": 1.4},
            "split": {"pleural_effusion": 1.4},
            "second": {"pneumothorax": 1.4},
        }
    )

    def render(self, design: Design, study: Drawn) -> npt.NDArray[np.int16]:
        return draw_heart_sound(study.evidence.parts[self.name], stream(design, study.index, self.name))

    def write(self, target: Target, rendered: npt.NDArray[np.int16] | None) -> Written:
        if rendered is None:
            return Written({"sounds": ""})
        path = f"{_FOLDER}/{target.study.study_id}.wav"
        (target.root / path).write_bytes(as_wav(rendered))
        return Written({"sounds": path})

    def request(self, asked: Asked) -> Sent:
        return Sent(files={"sounds": (as_wav(self.render(asked.design, asked.study)),)})
